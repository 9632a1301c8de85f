#!lua flags=allow-oom
-- mail/poll: what waits in an agent's mailbox after a number, oldest first.
-- ARGV: agent_id since limit mailbox_cap
-- RETURNS: OK {entry seq per message}
-- INCLUDE: keys clock mail mail_sync
-- While the agent is connected, what came since it connected is on its way to its socket and is not shown here.

local agent = redis.call('HMGET', agent_key(agent_id), 'conn', 'mail_seq')
local upto = '+inf'
if agent[1] then
  upto = agent[2] or 0
else
  sync_mail(agent_id, subscribed_channels(agent_id), tonumber(mailbox_cap))
end
local found = redis.call('ZRANGEBYSCORE', mailbox_key(agent_id), '(' .. since, upto, 'WITHSCORES', 'LIMIT', 0, limit)
local reply = {'OK'}
for i = 1, #found, 2 do
  reply[#reply + 1] = found[i]
  reply[#reply + 1] = digits(tonumber(found[i + 1]))
end
return reply
