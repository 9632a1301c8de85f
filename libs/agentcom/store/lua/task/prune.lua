#!lua flags=allow-oom
-- task/prune: removes the oldest finished tasks, by age and by count.
-- ARGV: kind max_age_ms max_count limit
-- RETURNS: OK {pruned more}
-- EVENTS: task_pruned
-- INCLUDE: keys clock events
-- kind is finished (completed and cancelled) or dead (dead letters). One event announces the whole batch.

local index, statuses = finished_key(), {'completed', 'cancelled'}
if kind == 'dead' then index, statuses = dead_key(), {'dead_letter'} end
local batch = tonumber(limit)
local over = redis.call('ZCARD', index) - tonumber(max_count)
local old = redis.call('ZRANGEBYSCORE', index, '-inf', now - tonumber(max_age_ms), 'LIMIT', 0, batch)
if #old < batch and over > #old then old = redis.call('ZRANGE', index, 0, math.min(over, batch) - 1) end
local pruned = 0
for _, task_id in ipairs(old) do
  redis.call('ZREM', index, task_id)
  for _, status in ipairs(statuses) do pruned = pruned + redis.call('ZREM', status_key(status), task_id) end
  redis.call('UNLINK', task_key(task_id), history_key(task_id))
end
if pruned > 0 then
  redis.call('HINCRBY', counters_key(), 'pruned', pruned)
  emit('task_pruned', 'count', pruned)
end
return {'OK', #old, #old == batch and 1 or 0}
