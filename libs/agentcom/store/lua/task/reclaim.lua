#!lua flags=allow-oom
-- task/reclaim: assigned -> queued (or dead_letter past max_deliveries) for tasks whose accept or progress deadline
-- has come. Their agents wait for work again, marked unresponsive.
-- ARGV: kind limit return_grace_ms
-- RETURNS: OK {served more}
-- EVENTS: task_reclaimed task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state absence
-- kind is accept or progress. more is 1 if further deadlines are due.

local reasons = {accept = 'acceptance_timeout', progress = 'progress_timeout'}
local tasks, reply = due_tasks(kind, limit)
local since = gateways_since()
for _, task in ipairs(tasks) do
  if put_off(kind, task.id, task, since, return_grace_ms) then
    reply[2] = reply[2] - 1
  else
    push_cancel(task.assigned_to, task.id, task.generation, reasons[kind])
    reclaim(task.id, task, reasons[kind])
    release_agent(task.assigned_to, task.id, true)
  end
end
return reply
