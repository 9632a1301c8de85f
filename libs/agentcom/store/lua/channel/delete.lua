#!lua flags=allow-oom
-- channel/delete: a channel is gone with its posts, members and subscriptions; only its creator or an admin may do it.
-- ARGV: name agent_id privileged
-- RETURNS: OK | NOT_FOUND | NOT_OWNER
-- INCLUDE: keys clock mail visible
-- Subscribers' own lists are cleaned when they are next looked at.

if not sees_channel(name, agent_id, privileged) then return {'NOT_FOUND'} end
if privileged ~= '1' and redis.call('HGET', channel_key(name), 'created_by') ~= agent_id then return {'NOT_OWNER'} end
redis.call('ZREM', channels_key(), name)
redis.call('UNLINK', channel_key(name), channel_log_key(name), members_key(name), subscribers_key(name))
push_to_all('kind', 'deleted', 'channel', name)
return {'OK'}
