#!lua flags=allow-oom
-- mail/evict: messages that nobody took for ttl_ms are dropped, about limit at a time.
-- ARGV: ttl_ms limit
-- RETURNS: OK {served more}
-- INCLUDE: keys clock mail

local cutoff, served, stopped = now_us - ttl_ms * 1000, 0, false
local due = redis.call('ZRANGEBYSCORE', mailboxes_key(), '-inf', digits(cutoff), 'LIMIT', 0, limit)
for _, agent_id in ipairs(due) do
  if served >= tonumber(limit) then
    stopped = true
    break
  end
  local key = mailbox_key(agent_id)
  local old = redis.call('ZRANGEBYSCORE', key, '-inf', digits(cutoff), 'LIMIT', 0, limit)
  for _, entry in ipairs(old) do
    redis.call('ZREM', key, entry)
    end_delivery(id_of(entry), agent_id, 'dead', 'expired')
  end
  served = served + #old
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if oldest[1] then
    redis.call('ZADD', mailboxes_key(), 'XX', oldest[2], agent_id)
  else
    redis.call('ZREM', mailboxes_key(), agent_id)
  end
end
redis.call('XTRIM', broadcasts_key(), 'MINID', '~', digits(cutoff) .. '-0')
return {'OK', served, (stopped or #due == tonumber(limit)) and 1 or 0}
