#!lua flags=no-writes
-- channel/get: one channel, and its subscribers, most recent first.
-- ARGV: name agent_id privileged limit
-- RETURNS: OK {description created_at created_by private subscribers agent_id per subscriber} | NOT_FOUND
-- INCLUDE: keys visible

if not sees_channel(name, agent_id, privileged) then return {'NOT_FOUND'} end
local channel = redis.call('HMGET', channel_key(name), 'description', 'created_at', 'created_by', 'private')
local reply = {'OK', channel[1], channel[2], channel[3], channel[4], redis.call('ZCARD', subscribers_key(name))}
for _, subscriber in ipairs(redis.call('ZREVRANGE', subscribers_key(name), 0, limit - 1)) do
  reply[#reply + 1] = subscriber
end
return reply
