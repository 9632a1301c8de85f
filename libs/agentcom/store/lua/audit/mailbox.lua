#!lua flags=no-writes
-- audit/mailbox: what an agent's mailbox and cursor say, and which of its next messages do not belong there, at one moment.
-- ARGV: agent_id after limit
-- RETURNS: OK {size oldest newest, its place among the mailboxes, the agent's cursor, latest number of all, number last looked at ('' for none), then ids of direct messages whose records do not wait for the agent}
-- INCLUDE: keys
-- Copies of broadcasts and posts have no state: their records may be gone.

local key = mailbox_key(agent_id)
local entries = redis.call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
local reply = {'OK', redis.call('ZCARD', key), redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or '',
  redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or '', redis.call('ZSCORE', mailboxes_key(), agent_id) or '',
  redis.call('HGET', mail_cursors_key(), agent_id) or '', redis.call('GET', mail_seq_key()) or 0, entries[#entries] or ''}
for i = 1, #entries, 2 do
  local id, to = string.match(entries[i], '^{"id":"([^"]*)","from":"[^"]*","to":"([^"]*)"')
  if to == agent_id then
    local message = redis.call('HMGET', message_key(id), 'to', 'state', 'seq')
    if message[1] ~= agent_id or message[2] ~= 'queued' or tonumber(message[3]) ~= tonumber(entries[i + 1]) then
      reply[#reply + 1] = id
    end
  end
end
return reply
