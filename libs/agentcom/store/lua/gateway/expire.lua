#!lua flags=allow-oom
-- gateway/expire: agents of gateways whose lease has lapsed are disconnected, a bounded number at a time; a gateway
-- without agents left is forgotten together with its outbox.
-- ARGV: grace_ms limit
-- RETURNS: OK {served more}
-- EVENTS: agent_left
-- INCLUDE: keys clock stats events sets agent_state mail mail_sync presence

local lapsed = redis.call('ZRANGEBYSCORE', gateways_key(), '-inf', stamp, 'LIMIT', 0, 1)[1]
if not lapsed then return {'OK', 0, 0} end
local agents = redis.call('SRANDMEMBER', gateway_agents_key(lapsed), limit)
for _, agent_id in ipairs(agents) do
  if redis.call('HGET', agent_key(agent_id), 'gateway') == lapsed then
    disconnect(agent_id, 'gateway_lost', tonumber(grace_ms))
  else
    redis.call('SREM', gateway_agents_key(lapsed), agent_id)
  end
end
if redis.call('EXISTS', gateway_agents_key(lapsed)) == 0 then
  redis.call('ZREM', gateways_key(), lapsed)
  redis.call('UNLINK', outbox_key(lapsed))
  redis.call('HDEL', written_key(), lapsed)
end
return {'OK', #agents, 1}
