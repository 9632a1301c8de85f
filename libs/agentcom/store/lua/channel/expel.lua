#!lua flags=allow-oom
-- channel/expel: a private channel does not exist any more for an agent, which is unsubscribed from it.
-- ARGV: name owner privileged agent_id
-- RETURNS: OK | NOT_FOUND | NOT_OWNER
-- INCLUDE: keys visible
-- The creator, an admin, or the agent itself may do it.

if not sees_channel(name, owner, privileged) then return {'NOT_FOUND'} end
if privileged ~= '1' and owner ~= agent_id and redis.call('HGET', channel_key(name), 'created_by') ~= owner then
  return {'NOT_OWNER'}
end
if redis.call('SREM', members_key(name), agent_id) == 0 then return {'OK'} end
redis.call('ZREM', subscriptions_key(agent_id), name)
if redis.call('ZREM', subscribers_key(name), agent_id) == 1 then
  local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn')
  if agent[2] then
    redis.call('XADD', outbox_key(agent[1]), '*', 'conn', agent[2], 'kind', 'unlisten', 'channel', name)
  end
end
return {'OK'}
