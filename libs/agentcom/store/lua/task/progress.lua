#!lua flags=allow-oom
-- task/progress: assigned -> assigned; moves the progress deadline. Progress on a task not accepted yet accepts it.
-- ARGV: task_id agent_id generation progress progress_timeout_ms
-- RETURNS: OK {generation} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner}
-- EVENTS: task_accepted task_progress
-- INCLUDE: keys clock events sets queue agent_state task_state accept

local task = load_run(task_id)
local refusal = refuse(task, agent_id, generation)
if refusal then return refusal end
accept(task_id, task, agent_id, progress_timeout_ms)
if progress ~= '' then redis.call('HSET', task_key(task_id), 'progress', progress) end
emit('task_progress', 'task_id', task_id, 'agent_id', agent_id, 'generation', task.generation, 'progress', progress)
return {'OK', task.generation}
