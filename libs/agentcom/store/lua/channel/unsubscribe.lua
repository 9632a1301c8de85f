#!lua flags=allow-oom
-- channel/unsubscribe: an agent is not told of a channel's posts any more; what it missed so far it still gets.
-- ARGV: name agent_id privileged mailbox_cap
-- RETURNS: OK {was_subscribed} | NOT_FOUND
-- INCLUDE: keys clock mail mail_sync visible

local joined = redis.call('ZSCORE', subscribers_key(name), agent_id)
if not joined and not sees_channel(name, agent_id, privileged) then return {'NOT_FOUND'} end
if not joined then return {'OK', 0} end
local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn')
if agent[2] then
  redis.call('XADD', outbox_key(agent[1]), '*', 'conn', agent[2], 'kind', 'unlisten', 'channel', name)
else
  sync_mail(agent_id, subscribed_channels(agent_id), tonumber(mailbox_cap))
end
redis.call('ZREM', subscribers_key(name), agent_id)
redis.call('ZREM', subscriptions_key(agent_id), name)
return {'OK', 1}
