#!lua flags=no-writes
-- task/counts: how many tasks are in each place, by priority, and how many ever came and went. One moment's truth:
-- submitted = the sum of all places + pruned.
-- RETURNS: OK {submitted pruned then per status in the order of the domain: urgent high normal low}
-- INCLUDE: keys

local reply = {'OK', tonumber(redis.call('HGET', counters_key(), 'submitted') or 0),
  tonumber(redis.call('HGET', counters_key(), 'pruned') or 0)}
for _, status in ipairs({'queued', 'delayed', 'assigned', 'completed', 'cancelled', 'dead_letter'}) do
  for priority = 0, 3 do
    reply[#reply + 1] = redis.call('ZCOUNT', status_key(status), priority * 2e15, '(' .. string.format('%.0f', (priority + 1) * 2e15))
  end
end
return reply
