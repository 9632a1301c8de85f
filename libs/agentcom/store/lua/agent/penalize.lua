#!lua flags=allow-oom
-- agent/penalize: an identified agent was disconnected for too many invalid frames: it may not identify for a while,
-- longer each time. The count is forgotten an hour after the last offence.
-- ARGV: call_id agent_id
-- RETURNS: OK {cooldown_ms}
-- INCLUDE: keys clock once

local cooldowns = {30000, 60000, 300000}
local key = violations_key(agent_id)
local answer = kept_answer(key, call_id)
if answer then return {'OK', tonumber(answer)} end
local count = redis.call('HINCRBY', key, 'count', 1)
local cooldown = cooldowns[math.min(count, #cooldowns)]
redis.call('HSET', key, 'until', now + cooldown)
keep_answer(key, call_id, cooldown)
redis.call('PEXPIRE', key, 3600000)
return {'OK', cooldown}
