#!lua flags=allow-oom
-- task/expire: queued, delayed or assigned -> dead_letter for tasks whose time is over; -> cancelled if that was asked
-- for.
-- ARGV: kind limit
-- RETURNS: OK {served more}
-- EVENTS: task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state
-- kind is expires (nobody took the task by expires_at) or complete_by (it was not done by then; an agent working on it
-- is asked to stop).

local reasons = {expires = 'expired', complete_by = 'overdue'}
local tasks, reply = due_tasks(kind, limit)
for _, task in ipairs(tasks) do
  leave_place(task.id, task)
  if task.cancel_requested_at then
    cancel(task.id, task, reasons[kind])
  else
    if task.status == 'assigned' then
      record(task.id, 'reclaimed', cjson.encode(reasons[kind]))
      push_cancel(task.assigned_to, task.id, task.generation, reasons[kind])
    end
    bury(task.id, task, reasons[kind])
  end
  if task.status == 'assigned' then release_agent(task.assigned_to, task.id, false) end
end
return reply
