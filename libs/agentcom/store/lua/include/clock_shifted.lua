-- The clock of tests: Redis's, moved by the milliseconds in one key; @ and epoch microseconds there make it stand still.
-- Takes the place of clock only when the store is opened with shifted_clock.
local clock = redis.call('TIME')
local clock_shift = redis.call('GET', KEYS[1] .. 'clock:shift') or '0'
local clock_stands = string.match(clock_shift, '^@(%d+)$')
local now_us = tonumber(clock_stands or clock[1] * 1000000 + clock[2] + clock_shift * 1000)
local now = math.floor(now_us / 1000)
local stamp = string.format('%.0f', now)
