#!lua
-- token/mint: one more token for an agent id.
-- ARGV: agent_id digest prefix role only_if_empty
-- RETURNS: OK {created_at} | TOKEN_EXISTS | NOT_EMPTY
-- EVENTS: token_minted
-- INCLUDE: keys clock events
-- With only_if_empty 1 nothing happens if any token exists: that is how the first admin token of a new store is made.
-- The same digest for the same agent once more is the same call sent twice.

if redis.call('SISMEMBER', agent_tokens_key(agent_id), digest) == 1 then return {'OK', now} end
if only_if_empty == '1' and redis.call('EXISTS', tokens_key()) == 1 then return {'NOT_EMPTY'} end
if redis.call('HEXISTS', tokens_key(), digest) == 1 then return {'TOKEN_EXISTS'} end
redis.call('HSET', tokens_key(), digest,
  '{"agent_id":' .. cjson.encode(agent_id) .. ',"role":"' .. role .. '","prefix":"' .. prefix ..
  '","created_at":' .. stamp .. '}')
redis.call('SADD', agent_tokens_key(agent_id), digest)
emit('token_minted', 'agent_id', agent_id, 'role', role)
return {'OK', now}
