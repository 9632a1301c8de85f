#!lua flags=allow-oom
-- mail/ack: an agent has everything up to a number: it leaves the mailbox and does not come back.
-- ARGV: agent_id seq
-- RETURNS: OK {removed}
-- INCLUDE: keys clock mail mail_sync

local upto = math.min(tonumber(seq), tonumber(redis.call('GET', mail_seq_key()) or 0))
local entries = redis.call('ZRANGEBYSCORE', mailbox_key(agent_id), '-inf', upto)
for _, entry in ipairs(entries) do end_delivery(id_of(entry), agent_id, 'acknowledged') end
redis.call('ZREMRANGEBYSCORE', mailbox_key(agent_id), '-inf', upto)
if upto > 0 then advance_cursor(agent_id, upto) end
return {'OK', #entries}
