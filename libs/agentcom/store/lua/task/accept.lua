#!lua flags=allow-oom
-- task/accept: assigned -> assigned, now with a progress deadline; its agent works. Accepting twice is accepting once.
-- ARGV: task_id agent_id generation progress_timeout_ms
-- RETURNS: OK {generation} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner}
-- EVENTS: task_accepted
-- INCLUDE: keys clock events sets queue agent_state task_state accept

local task = load_run(task_id)
local refusal = refuse(task, agent_id, generation)
if refusal then return refusal end
accept(task_id, task, agent_id, progress_timeout_ms)
return {'OK', task.generation}
