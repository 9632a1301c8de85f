-- What an agent is doing. Needs keys clock events sets.
-- An agent is in the idle sets exactly while its state is idle. Its hash exists while it is connected or, within the
-- grace, holds a task.

-- Added to the idle score of an agent whose last assignment was lost: it is chosen after all others.
local UNRESPONSIVE_PENALTY = 10000000000000

local function enter_idle(agent_id, capabilities, unresponsive)
  local score = now
  if unresponsive then score = now + UNRESPONSIVE_PENALTY end
  redis.call('ZADD', idle_any_key(), score, agent_id)
  for _, capability in ipairs(split(capabilities)) do
    redis.call('ZADD', idle_key(capability), score, agent_id)
  end
end

local function leave_idle(agent_id, capabilities)
  redis.call('ZREM', idle_any_key(), agent_id)
  for _, capability in ipairs(split(capabilities)) do
    redis.call('ZREM', idle_key(capability), agent_id)
  end
end

-- How many connected agents have each capability.
local function count_capabilities(capabilities, by)
  for _, capability in ipairs(split(capabilities)) do
    if redis.call('HINCRBY', capabilities_key(), capability, by) <= 0 then
      redis.call('HDEL', capabilities_key(), capability)
    end
  end
end

-- Lets an agent wait for work. Does not look for any: callers match or call request_match.
local function make_idle(agent_id, capabilities, unresponsive)
  redis.call('HSET', agent_key(agent_id), 'state', 'idle', 'last_state_change', stamp)
  redis.call('HDEL', agent_key(agent_id), 'task', 'generation')
  enter_idle(agent_id, capabilities, unresponsive)
end

local function forget_agent(agent_id)
  redis.call('DEL', agent_key(agent_id))
  redis.call('ZREM', due_key('grace'), agent_id)
end

-- Takes a task out of its agent's hands when the agent did not ask for that. A connected agent waits for work again
-- (marked unresponsive if lost), a disconnected one is forgotten. Nothing happens if it holds another task by now.
local function release_agent(agent_id, task_id, lost)
  local agent = redis.call('HMGET', agent_key(agent_id), 'task', 'state', 'capabilities', 'unresponsive')
  if agent[1] ~= task_id then return end
  if agent[2] == 'offline' then
    forget_agent(agent_id)
    return
  end
  if lost then redis.call('HSET', agent_key(agent_id), 'unresponsive', 1) end
  make_idle(agent_id, agent[3] or '', lost or agent[4])
  request_match('agent', agent_id)
end

local function cancel_frame(task_id, generation, reason)
  return '{"type":"task_cancel","task_id":"' .. task_id .. '","generation":' .. generation ..
    ',"reason":' .. cjson.encode(reason) .. '}'
end

-- Asks a connected agent to stop working on a task.
local function push_cancel(agent_id, task_id, generation, reason)
  local agent = redis.call('HMGET', agent_key(agent_id), 'task', 'gateway', 'conn')
  if agent[1] ~= task_id or not agent[2] then return end
  push(agent[2], agent[3], 'cancel', cancel_frame(task_id, generation, reason))
end
