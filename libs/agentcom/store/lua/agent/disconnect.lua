#!lua flags=allow-oom
-- agent/disconnect: connected -> offline (forgotten at once if it holds no task), only for the agent's current
-- connection: a late close of an older one changes nothing.
-- ARGV: agent_id conn reason grace_ms written
-- RETURNS: OK | CONNECTION_REPLACED
-- EVENTS: agent_left
-- INCLUDE: keys clock stats events sets agent_state mail mail_sync presence
-- written is the number up to which all mail was written to the socket, '' if nobody knows.

if redis.call('HGET', agent_key(agent_id), 'conn') ~= conn then return {'CONNECTION_REPLACED'} end
disconnect(agent_id, reason, tonumber(grace_ms), tonumber(written))
return {'OK'}
