#!lua
-- mail/broadcast: a message to everybody but its sender: stored once, and one entry for each gateway.
-- ARGV: id sender type payload reply_to digest remember_ms mailbox_cap history_cap
-- RETURNS: OK {sent|repeated seq timestamp 0} | MESSAGE_ID_CONFLICT
-- INCLUDE: keys clock stats mail
-- Agents that are away find it in their mailboxes, see include/mail_sync.lua.

local m = {id = id, from = sender, to = 'broadcast', type = type, payload = payload, reply_to = reply_to, timestamp = now}
local before = sent_before(m, digest, remember_ms)
if before then return before end
local seq = next_mail_seq()
file_message(m, seq, 'published', digest, tonumber(history_cap))
remember_id(m, seq, digest, remember_ms, 0)
redis.call('XADD', broadcasts_key(), 'MAXLEN', '~', mailbox_cap, digits(seq) .. '-0',
  'n', digits(seq), 'from', sender, 'entry', envelope(m))
push_to_all('kind', 'broadcast', 'frame', message_frame('message', m, ',"to":"broadcast","seq":' .. digits(seq)),
  'seq', digits(seq), 'sender', sender)
count_message(sender, {})
return {'OK', 'sent', digits(seq), now, 0}
