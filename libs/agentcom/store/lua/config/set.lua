#!lua flags=allow-oom
-- config/set: changes a setting at run time and tells every process.
-- ARGV: name value
-- RETURNS: OK
-- INCLUDE: keys

redis.call('HSET', config_key(), name, value)
redis.call('PUBLISH', config_channel(), name)
return {'OK'}
