-- The one clock: Redis's. now_us is microseconds, now is milliseconds, both since the epoch.
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)
