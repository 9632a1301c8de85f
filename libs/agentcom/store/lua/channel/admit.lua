#!lua
-- channel/admit: a private channel exists for one more agent; only its creator or an admin may do it.
-- ARGV: name owner privileged agent_id max_members
-- RETURNS: OK | NOT_FOUND | NOT_OWNER | UNKNOWN_AGENT | TOO_MANY
-- INCLUDE: keys visible

if not sees_channel(name, owner, privileged) then return {'NOT_FOUND'} end
if privileged ~= '1' and redis.call('HGET', channel_key(name), 'created_by') ~= owner then return {'NOT_OWNER'} end
if redis.call('EXISTS', agent_tokens_key(agent_id)) == 0 then return {'UNKNOWN_AGENT'} end
if redis.call('HGET', channel_key(name), 'private') ~= '1' then return {'OK'} end
if redis.call('SISMEMBER', members_key(name), agent_id) == 1 then return {'OK'} end
if redis.call('SCARD', members_key(name)) >= tonumber(max_members) then return {'TOO_MANY'} end
redis.call('SADD', members_key(name), agent_id)
return {'OK'}
