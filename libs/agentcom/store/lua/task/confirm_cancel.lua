#!lua flags=allow-oom
-- task/confirm_cancel: assigned with a cancel asked for -> cancelled, on its agent's word. Frees the agent as
-- task/complete does.
-- ARGV: task_id agent_id conn generation accept_timeout_ms
-- RETURNS: OK {first|repeat outcome next_frame} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner} | NOT_CANCELLING
-- EVENTS: task_cancelled task_assigned
-- INCLUDE: keys clock events sets queue agent_state match task_state report rest

local task = load_task(task_id, generation)
local outcome = repeated_report(task, agent_id, 'cancel')
if outcome then return {'OK', 'repeat', outcome, pending_assignment(agent_id, conn)} end
local refusal = refuse(task, agent_id, generation)
if refusal then
  free_after_refusal(agent_id, task_id, task)
  return refusal
end
if not task.cancel_requested_at then return {'NOT_CANCELLING'} end
leave_assigned(task_id, task)
cancel(task_id, task, redis.call('HGET', task_key(task_id), 'cancel_reason') or '')
redis.call('HSET', task_key(task_id), kept_report(task.generation, agent_id, 'cancel', 'cancelled'))
return {'OK', 'first', 'cancelled', next_for(agent_id, task_id, conn, accept_timeout_ms)}
