#!lua flags=allow-oom
-- task/end_cancel: assigned with a cancel asked for -> cancelled, because its agent did not answer in time.
-- ARGV: limit
-- RETURNS: OK {served more}
-- EVENTS: task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state

local tasks, reply = due_tasks('cancel', limit)
for _, task in ipairs(tasks) do
  leave_assigned(task.id, task)
  cancel(task.id, task, redis.call('HGET', task_key(task.id), 'cancel_reason') or '')
  release_agent(task.assigned_to, task.id, false)
end
return reply
