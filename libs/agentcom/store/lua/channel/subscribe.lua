#!lua
-- channel/subscribe: an agent is told of a channel's posts from now on; a socket that it has listens at once.
-- ARGV: name agent_id privileged max_subscriptions
-- RETURNS: OK {subscribed|already_subscribed} | NOT_FOUND | TOO_MANY
-- INCLUDE: keys clock mail mail_sync visible

if not sees_channel(name, agent_id, privileged) then return {'NOT_FOUND'} end
local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn')
local is_new = not redis.call('ZSCORE', subscribers_key(name), agent_id)
if is_new then
  if redis.call('ZCARD', subscriptions_key(agent_id)) >= tonumber(max_subscriptions) and
    #subscribed_channels(agent_id) >= tonumber(max_subscriptions) then return {'TOO_MANY'} end
  redis.call('ZADD', subscribers_key(name), next_mail_seq(), agent_id)
  redis.call('ZADD', subscriptions_key(agent_id), 0, name)
  push_to_all('kind', 'joined', 'channel', name, 'sender', agent_id, 'frame',
    '{"type":"channel_agent_joined","channel":"' .. name .. '","agent_id":' .. cjson.encode(agent_id) .. '}')
end
if agent[2] then
  redis.call('XADD', outbox_key(agent[1]), '*', 'conn', agent[2], 'kind', 'listen', 'channel', name)
end
return {'OK', is_new and 'subscribed' or 'already_subscribed'}
