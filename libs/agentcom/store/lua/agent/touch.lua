#!lua flags=allow-oom
-- agent/touch: agents that a gateway has heard from since the last call, by any frame or protocol pong.
-- ARGV: agent_ids...
-- RETURNS: OK
-- INCLUDE: keys clock

for _, agent_id in ipairs(agent_ids) do redis.call('ZADD', seen_key(), 'XX', stamp, agent_id) end
return {'OK'}
