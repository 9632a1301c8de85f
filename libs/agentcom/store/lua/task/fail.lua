#!lua flags=allow-oom
-- task/fail: assigned -> queued, delayed (retry with back-off) or dead_letter, only for the current generation and its
-- owner; -> cancelled if a cancel was asked for. Frees the agent as task/complete does.
-- ARGV: task_id agent_id conn generation reason backoff_cap_ms accept_timeout_ms
-- RETURNS: OK {first|repeat outcome next_frame} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner}
-- EVENTS: task_retried task_dead_letter task_cancelled task_assigned
-- INCLUDE: keys clock events sets queue agent_state match task_state report rest
-- outcome is retried, dead_letter or cancelled. The same report once more gets the same answer.

local task = load_task(task_id, generation)
local outcome = repeated_report(task, agent_id, 'fail')
if outcome then return {'OK', 'repeat', outcome, pending_assignment(agent_id, conn)} end
local refusal = refuse(task, agent_id, generation)
if refusal then
  free_after_refusal(agent_id, task_id, task)
  return refusal
end
outcome = fail_attempt(task_id, task, reason, tonumber(backoff_cap_ms))
redis.call('HSET', task_key(task_id), kept_report(task.generation, agent_id, 'fail', outcome))
return {'OK', 'first', outcome, next_for(agent_id, task_id, conn, accept_timeout_ms)}
