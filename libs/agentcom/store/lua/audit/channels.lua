#!lua flags=no-writes
-- audit/channels: everything that says whether each of some channels is there, at one moment.
-- ARGV: names...
-- RETURNS: OK {one list per channel: created_at and seq of its record, its score among the channels, the seq of its latest post, how many posts subscribers members}
-- INCLUDE: keys

local reply = {'OK'}
for _, name in ipairs(names) do
  local facts = redis.call('HMGET', channel_key(name), 'created_at', 'seq')
  facts[#facts + 1] = redis.call('ZSCORE', channels_key(), name)
  local latest = redis.call('XREVRANGE', channel_log_key(name), '+', '-', 'COUNT', 1)[1]
  facts[#facts + 1] = latest and string.match(latest[1], '^%d+') or false
  facts[#facts + 1] = redis.call('XLEN', channel_log_key(name))
  facts[#facts + 1] = redis.call('ZCARD', subscribers_key(name))
  facts[#facts + 1] = redis.call('SCARD', members_key(name))
  reply[#reply + 1] = facts
end
return reply
