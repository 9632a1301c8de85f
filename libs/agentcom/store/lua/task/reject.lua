#!lua flags=allow-oom
-- task/reject: assigned -> queued, at once, because the agent is busy on its own account. No retry and no delivery is
-- counted; the agent rests for a cooldown that doubles with each rejection in a row, so that the two do not spin.
-- ARGV: call_id task_id agent_id generation reason cooldown_ms cooldown_cap_ms
-- RETURNS: OK {cooldown_ms} | NOT_FOUND | INVALID_STATE {status} | STALE_GENERATION {current} | NOT_OWNER {owner}
-- EVENTS: task_rejected task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state once

local answer = kept_answer(task_key(task_id), call_id)
if answer then return {'OK', tonumber(answer)} end
local task = load_task(task_id)
local refusal = refuse(task, agent_id, generation)
if refusal then return refusal end
leave_assigned(task_id, task)
if task.cancel_requested_at then
  cancel(task_id, task, reason)
else
  record(task_id, 'rejected', cjson.encode(reason))
  emit('task_rejected', 'task_id', task_id, 'agent_id', agent_id, 'generation', task.generation, 'reason', reason)
  requeue(task_id, task, 0)
end
local rest = 0
local agent = redis.call('HMGET', agent_key(agent_id), 'task', 'state')
if agent[1] == task_id and agent[2] == 'offline' then
  forget_agent(agent_id)
elseif agent[1] == task_id then
  local rejections = redis.call('HINCRBY', agent_key(agent_id), 'rejections', 1)
  rest = math.min(tonumber(cooldown_ms) * 2 ^ math.min(rejections - 1, 20), tonumber(cooldown_cap_ms))
  redis.call('HSET', agent_key(agent_id), 'state', 'blocked', 'last_state_change', stamp)
  redis.call('HDEL', agent_key(agent_id), 'task', 'generation')
  redis.call('ZADD', due_key('unblock'), now + rest, agent_id)
end
keep_answer(task_key(task_id), call_id, rest)
return {'OK', rest}
