#!lua
-- agent/status: sets an agent's own status text and tells everybody.
-- ARGV: agent_id conn status
-- RETURNS: OK | CONNECTION_REPLACED
-- EVENTS: agent_status_changed
-- INCLUDE: keys clock events

if redis.call('HGET', agent_key(agent_id), 'conn') ~= conn then return {'CONNECTION_REPLACED'} end
redis.call('HSET', agent_key(agent_id), 'status', status)
emit('agent_status_changed', 'agent_id', agent_id)
publish_presence('status_changed', agent_id, describe_agent(agent_id))
return {'OK'}
