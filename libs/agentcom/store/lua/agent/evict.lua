#!lua flags=allow-oom
-- agent/evict: connected agents not heard from for stale_ms are disconnected and their sockets closed.
-- ARGV: stale_ms grace_ms limit
-- RETURNS: OK {served more}
-- EVENTS: agent_left
-- INCLUDE: keys clock stats events sets agent_state mail mail_sync presence

local silent = redis.call('ZRANGEBYSCORE', seen_key(), '-inf', now - tonumber(stale_ms), 'LIMIT', 0, limit)
for _, agent_id in ipairs(silent) do
  local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn')
  push_close(agent[1], agent[2], 4001, 'nothing was heard from this agent')
  disconnect(agent_id, 'stale', tonumber(grace_ms))
end
return {'OK', #silent, #silent == tonumber(limit) and 1 or 0}
