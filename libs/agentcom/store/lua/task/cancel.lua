#!lua flags=allow-oom
-- task/cancel: queued or delayed -> cancelled. An assigned task stays with its agent, which is asked to stop; its
-- answer, any other report of it, or the cancel deadline ends the task.
-- ARGV: task_id requester privileged reason cancel_timeout_ms
-- RETURNS: OK {cancelled|cancelling} | NOT_FOUND | INVALID_STATE {status} | NOT_SUBMITTER {submitter}
-- EVENTS: task_cancelled task_cancel_requested
-- INCLUDE: keys clock events sets queue agent_state task_state
-- Only the submitter and the privileged (1) may cancel. Cancelling twice is cancelling once.

local task = load_task(task_id)
if not task then return {'NOT_FOUND'} end
if privileged ~= '1' then
  local submitter = redis.call('HGET', task_key(task_id), 'submitted_by')
  if submitter ~= requester then return {'NOT_SUBMITTER', submitter} end
end
if task.status == 'cancelled' then return {'OK', 'cancelled'} end
if task.status == 'queued' or task.status == 'delayed' then
  leave_place(task_id, task)
  cancel(task_id, task, reason)
  return {'OK', 'cancelled'}
end
if task.status ~= 'assigned' then return {'INVALID_STATE', task.status} end
if not task.cancel_requested_at then
  redis.call('HSET', task_key(task_id), 'cancel_requested_at', stamp, 'cancel_reason', reason, 'updated_at', stamp)
  redis.call('ZADD', due_key('cancel'), now + cancel_timeout_ms, task_id)
  record(task_id, 'cancel_requested', cjson.encode(reason))
  emit('task_cancel_requested', 'task_id', task_id, 'agent_id', task.assigned_to, 'generation', task.generation)
  push_cancel(task.assigned_to, task_id, task.generation, reason)
end
return {'OK', 'cancelling'}
