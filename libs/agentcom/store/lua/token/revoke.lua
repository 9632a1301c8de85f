#!lua flags=allow-oom
-- token/revoke: all tokens of an agent id. Its live socket is closed, and every process is told to forget what it
-- remembers of the agent's tokens.
-- ARGV: agent_id
-- RETURNS: OK {revoked}
-- EVENTS: tokens_revoked
-- INCLUDE: keys clock events

local digests = redis.call('SMEMBERS', agent_tokens_key(agent_id))
for _, digest in ipairs(digests) do redis.call('HDEL', tokens_key(), digest) end
redis.call('DEL', agent_tokens_key(agent_id))
local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn')
if agent[1] then push_close(agent[1], agent[2], 4501, 'token revoked') end
redis.call('PUBLISH', revoked_channel(), agent_id)
emit('tokens_revoked', 'agent_id', agent_id, 'count', #digests)
return {'OK', #digests}
