#!lua flags=allow-oom
-- task/complete: assigned -> completed, only for the current generation and its owner. Frees the agent, which gets its
-- next task in the same step; the frame of that assignment is part of the reply ('' if none).
-- ARGV: task_id agent_id conn generation result tokens_used accept_timeout_ms
-- RETURNS: OK {first|repeat outcome next_frame} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner}
-- EVENTS: task_completed task_assigned
-- INCLUDE: keys clock events sets queue agent_state match task_state report rest
-- The same report once more gets the same answer. result is JSON text and stored as it is.

local task = load_task(task_id, generation)
local outcome = repeated_report(task, agent_id, 'complete')
if outcome then return {'OK', 'repeat', outcome, pending_assignment(agent_id, conn)} end
local refusal = refuse(task, agent_id, generation)
if refusal then
  free_after_refusal(agent_id, task_id, task)
  return refusal
end
leave_assigned(task_id, task)
finish(task_id, task, 'completed', 'result', result, kept_report(task.generation, agent_id, 'complete', 'complete'))
if tokens_used ~= '' then redis.call('HSET', task_key(task_id), 'tokens_used', tokens_used) end
record(task_id, 'completed', '{"tokens_used":' .. (tokens_used ~= '' and tokens_used or 'null') .. '}')
emit('task_completed', 'task_id', task_id, 'agent_id', agent_id, 'generation', task.generation,
  'duration_ms', now - task.assigned_at, 'tokens_used', tokens_used)
return {'OK', 'first', 'complete', next_for(agent_id, task_id, conn, accept_timeout_ms)}
