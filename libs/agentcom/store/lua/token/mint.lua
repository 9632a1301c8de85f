#!lua
-- token/mint: one more token for an agent id.
-- ARGV: agent_id digest prefix role only_if_empty
-- RETURNS: OK {created_at} | TOKEN_EXISTS | NOT_EMPTY
-- EVENTS: token_minted
-- INCLUDE: keys clock events
-- With only_if_empty 1 nothing happens if any token exists: that is how the first admin token of a new store is made.
-- The same token for the same agent and role once more is the same call sent twice.
-- The same digest for the same agent once more is the same call sent twice.

if redis.call('SISMEMBER', agent_tokens_key(agent_id), digest) == 1 then return {'OK', now} end
local stored = redis.call('HGET', tokens_key(), digest)
if stored then
  local token = cjson.decode(stored)
  if token.agent_id == agent_id and token.role == role then return {'OK', token.created_at} end
  return {'TOKEN_EXISTS'}
end
if only_if_empty == '1' and redis.call('EXISTS', tokens_key()) == 1 then return {'NOT_EMPTY'} end
redis.call('HSET', tokens_key(), digest,
  '{"agent_id":' .. cjson.encode(agent_id) .. ',"role":"' .. role .. '","prefix":"' .. prefix ..
  '","created_at":' .. now .. '}')
redis.call('SADD', agent_tokens_key(agent_id), digest)
emit('token_minted', 'agent_id', agent_id, 'role', role)
return {'OK', now}
