-- Counters by the hour. Needs keys clock.
-- One hash for each hour, gone after 25 hours. Fields: denied; sent:<agent>, received:<agent>, connected:<agent>
-- (milliseconds of connections that ended), connects:<agent>, last:<agent> (ms of the last message or connect).

local function count_in_hour(field, by)
  local key = stats_key(math.floor(now / 3600000))
  redis.call('HINCRBY', key, field, by)
  redis.call('PEXPIRE', key, 90000000)
end

-- A message from an agent to so many others, or to none that is known.
local function count_message(sender, recipients)
  count_in_hour('sent:' .. sender, 1)
  redis.call('HSET', stats_key(math.floor(now / 3600000)), 'last:' .. sender, stamp)
  for _, recipient in ipairs(recipients) do count_in_hour('received:' .. recipient, 1) end
end

-- An agent has connected. Agents not seen for 30 days are not known any more.
local function count_connect(agent_id)
  redis.call('ZADD', known_agents_key(), stamp, agent_id)
  redis.call('ZREMRANGEBYSCORE', known_agents_key(), '-inf', now - 2592000000)
  count_in_hour('connects:' .. agent_id, 1)
  redis.call('HSET', stats_key(math.floor(now / 3600000)), 'last:' .. agent_id, stamp)
end

-- An agent's connection has ended after so many milliseconds.
local function count_leave(agent_id, connected_ms)
  redis.call('ZADD', known_agents_key(), 'XX', stamp, agent_id)
  count_in_hour('connected:' .. agent_id, connected_ms)
end
