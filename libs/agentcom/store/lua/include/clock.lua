-- The one clock: Redis's. now_us is microseconds, now is milliseconds, both since the epoch; stamp is now as text, which
-- is what commands are given: Redis 7.0 takes long to turn each number of Lua's into text.
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)
local stamp = string.format('%.0f', now)
