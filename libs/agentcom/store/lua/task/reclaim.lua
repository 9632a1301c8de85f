#!lua flags=allow-oom
-- task/reclaim: assigned -> queued (or dead_letter past max_deliveries) for tasks whose accept or progress deadline
-- has come. Their agents wait for work again, marked unresponsive.
-- ARGV: kind limit
-- RETURNS: OK {served more}
-- EVENTS: task_reclaimed task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state
-- kind is accept or progress. more is 1 if further deadlines are due.

local reasons = {accept = 'acceptance_timeout', progress = 'progress_timeout'}
local due = redis.call('ZRANGEBYSCORE', due_key(kind), '-inf', now, 'LIMIT', 0, limit)
for _, task_id in ipairs(due) do
  local task = load_task(task_id)
  push_cancel(task.assigned_to, task_id, task.generation, reasons[kind])
  reclaim(task_id, task, reasons[kind])
  release_agent(task.assigned_to, task_id, true)
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
