#!lua flags=allow-oom
-- forget_consumers: removes consumers of the match stream that were not heard of for idle_ms and hold no request; one
-- that still holds some is kept until they were claimed.
-- ARGV: group idle_ms
-- RETURNS: OK {removed}
-- INCLUDE: keys

if redis.call('EXISTS', match_key()) == 0 then return {'OK', 0} end
local consumers = redis.pcall('XINFO', 'CONSUMERS', match_key(), group)
if consumers.err then return {'OK', 0} end
local removed = 0
for _, consumer in ipairs(consumers) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields.pending == 0 and fields.idle >= tonumber(idle_ms) then
    redis.call('XGROUP', 'DELCONSUMER', match_key(), group, fields.name)
    removed = removed + 1
  end
end
return {'OK', removed}
