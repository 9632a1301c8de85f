#!lua flags=allow-oom
-- rate/exempt: replaces the list of identities without limits. The first one named comes first.
-- ARGV: identities...
-- RETURNS: OK
-- INCLUDE: keys

redis.call('DEL', rate_exempt_key())
for index, identity in ipairs(identities) do redis.call('ZADD', rate_exempt_key(), 'NX', -index, identity) end
return {'OK'}
