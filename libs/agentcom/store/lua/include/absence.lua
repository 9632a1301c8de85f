-- Times without any gateway, such as an outage of the store or a restart of the whole hub. Needs keys clock.
-- Then no agent can report or come back, and nobody could be given its task. So no deadline takes a run that began
-- before such a time from its agent until return_grace_ms after its end.

local function some_gateway_alive()
  local longest = redis.call('ZREVRANGE', gateways_key(), 0, 0, 'WITHSCORES')
  return longest[1] and tonumber(longest[2]) > now
end

-- Since when there has always been a gateway; now if there is none.
local function gateways_since()
  if not some_gateway_alive() then return now end
  return tonumber(redis.call('GET', gateways_since_key()) or 0)
end

-- Puts off a deadline if the run it ends may still be reported. Returns whether it did.
local function put_off(kind, member, task, since, return_grace_ms)
  local at = since + return_grace_ms
  if tonumber(task.assigned_at) >= since or at <= now then return false end
  redis.call('ZADD', due_key(kind), at, member)
  return true
end
