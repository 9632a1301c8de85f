-- The clock of tests: Redis's, moved by the milliseconds in one key. Takes the place of clock only when the
-- store is opened with shifted_clock.
local clock = redis.call('TIME')
local shift_ms = tonumber(redis.call('GET', KEYS[1] .. 'clock:shift') or 0)
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2]) + shift_ms * 1000
local now = math.floor(now_us / 1000)
