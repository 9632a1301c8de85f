#!lua
-- token/register: the first token of an agent id; refused if it has one already.
-- ARGV: agent_id digest prefix role
-- RETURNS: OK {created_at} | AGENT_EXISTS | TOKEN_EXISTS
-- EVENTS: agent_registered
-- INCLUDE: keys clock events
-- The same digest once more is the same call sent twice. A digest may have been chosen by the client.

if redis.call('SISMEMBER', agent_tokens_key(agent_id), digest) == 1 then return {'OK', now} end
if redis.call('EXISTS', agent_tokens_key(agent_id)) == 1 then return {'AGENT_EXISTS'} end
if redis.call('HEXISTS', tokens_key(), digest) == 1 then return {'TOKEN_EXISTS'} end
redis.call('HSET', tokens_key(), digest,
  '{"agent_id":' .. cjson.encode(agent_id) .. ',"role":"' .. role .. '","prefix":"' .. prefix ..
  '","created_at":' .. stamp .. '}')
redis.call('SADD', agent_tokens_key(agent_id), digest)
emit('agent_registered', 'agent_id', agent_id, 'role', role)
return {'OK', now}
