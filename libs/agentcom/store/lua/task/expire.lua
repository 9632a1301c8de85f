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
local due = redis.call('ZRANGEBYSCORE', due_key(kind), '-inf', now, 'LIMIT', 0, limit)
for _, task_id in ipairs(due) do
  local task = load_task(task_id)
  leave_place(task_id, task)
  if task.cancel_requested_at then
    cancel(task_id, task, reasons[kind])
  else
    if task.status == 'assigned' then
      record(task_id, 'reclaimed', now, cjson.encode(reasons[kind]))
      push_cancel(task.assigned_to, task_id, task.generation, reasons[kind])
    end
    bury(task_id, task, reasons[kind])
  end
  if task.status == 'assigned' then release_agent(task.assigned_to, task_id, false) end
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
