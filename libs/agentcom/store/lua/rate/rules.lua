#!lua flags=allow-oom
-- rate/rules: gives an identity limits of its own, or takes them away ('' for none). Its buckets start anew, so that the
-- next request goes by the new limits.
-- ARGV: identity rules
-- RETURNS: OK
-- INCLUDE: keys
-- rules is JSON text: tier -> [capacity, rate] in millionths. A tier that is not named has the default.

if rules == '' then
  redis.call('HDEL', rate_rules_key(), identity)
else
  redis.call('HSET', rate_rules_key(), identity, rules)
end
for _, lane in ipairs({'http', 'ws'}) do
  for _, tier in ipairs({'light', 'normal', 'heavy'}) do redis.call('DEL', bucket_key(lane, tier, identity)) end
end
return {'OK'}
