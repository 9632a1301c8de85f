#!lua flags=allow-oom
-- task/prune: removes the oldest finished tasks, by age and by count.
-- ARGV: kind max_age_ms max_count limit
-- RETURNS: OK {pruned more}
-- EVENTS: task_pruned
-- INCLUDE: keys clock events
-- kind is finished (completed and cancelled) or dead (dead letters). One event announces the whole batch.

local index = kind == 'dead' and dead_key() or finished_key()
local batch = tonumber(limit)
local over = redis.call('ZCARD', index) - tonumber(max_count)
local old = redis.call('ZRANGEBYSCORE', index, '-inf', now - tonumber(max_age_ms), 'LIMIT', 0, batch)
if #old < batch and over > #old then old = redis.call('ZRANGE', index, 0, math.min(over, batch) - 1) end
for _, task_id in ipairs(old) do
  local status = redis.call('HGET', task_key(task_id), 'status')
  redis.call('ZREM', index, task_id)
  redis.call('ZREM', status_key(status), task_id)
  redis.call('UNLINK', task_key(task_id), history_key(task_id))
end
if #old > 0 then
  redis.call('HINCRBY', counters_key(), 'pruned', #old)
  emit('task_pruned', 'count', #old)
end
return {'OK', #old, #old == batch and 1 or 0}
