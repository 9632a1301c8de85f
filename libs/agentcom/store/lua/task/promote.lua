#!lua flags=allow-oom
-- task/promote: delayed -> queued for tasks whose run_at has come or whose retry's back-off has passed.
-- ARGV: limit
-- RETURNS: OK {served more}
-- EVENTS: task_promoted
-- INCLUDE: keys clock events sets queue agent_state task_state

local due = redis.call('ZRANGEBYSCORE', due_key('delayed'), '-inf', now, 'LIMIT', 0, limit)
for _, task_id in ipairs(due) do
  local task = load_task(task_id)
  leave_delayed(task_id, task)
  redis.call('HSET', task_key(task_id), 'status', 'queued', 'updated_at', now)
  enqueue(task_id, task.signature, task.score, task.listing, task.expires_at)
  emit('task_promoted', 'task_id', task_id, 'generation', task.generation)
  request_match('signature', task.signature)
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
