#!lua flags=allow-oom
-- task/promote: delayed -> queued for tasks whose run_at has come or whose retry's back-off has passed.
-- ARGV: limit
-- RETURNS: OK {served more}
-- EVENTS: task_promoted
-- INCLUDE: keys clock events sets queue agent_state task_state

local tasks, reply = due_tasks('delayed', limit)
for _, task in ipairs(tasks) do
  leave_delayed(task.id, task)
  redis.call('HSET', task_key(task.id), 'status', 'queued', 'updated_at', stamp)
  enqueue(task.id, task.signature, task.score, task.listing, task.expires_at)
  emit('task_promoted', 'task_id', task.id, 'generation', task.generation)
  request_match('signature', task.signature)
end
return reply
