#!lua flags=allow-oom
-- mail/delivered: what a gateway has written to its sockets.
-- ARGV: gateway written
-- ITEMS: agent_id seq id
-- RETURNS: OK {removed}
-- INCLUDE: keys clock mail
-- The items are direct messages. Broadcasts and posts up to the number written ('' if that has not changed) were written
-- to every socket of the gateway that they were for.

local removed = 0
for _, item in ipairs(items) do
  if redis.call('ZREMRANGEBYSCORE', mailbox_key(item.agent_id), item.seq, item.seq) > 0 then
    removed = removed + 1
    end_delivery(item.id, item.agent_id, 'delivered')
  end
end
if written ~= '' and redis.call('ZSCORE', gateways_key(), gateway) then
  redis.call('HSET', written_key(), gateway, written)
end
return {'OK', removed}
