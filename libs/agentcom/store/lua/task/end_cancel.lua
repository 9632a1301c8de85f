#!lua flags=allow-oom
-- task/end_cancel: assigned with a cancel asked for -> cancelled, because its agent did not answer in time.
-- ARGV: limit
-- RETURNS: OK {served more}
-- EVENTS: task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state

local due = redis.call('ZRANGEBYSCORE', due_key('cancel'), '-inf', now, 'LIMIT', 0, limit)
for _, task_id in ipairs(due) do
  local task = load_task(task_id)
  leave_assigned(task_id, task)
  cancel(task_id, task, redis.call('HGET', task_key(task_id), 'cancel_reason') or '')
  release_agent(task.assigned_to, task_id, false)
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
