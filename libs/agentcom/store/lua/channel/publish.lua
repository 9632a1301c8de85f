#!lua
-- channel/publish: a post: into the channel's log, the history and the threads, and one entry for each gateway.
-- ARGV: name id sender privileged type payload mailed reply_to digest remember_ms log_cap history_cap
-- RETURNS: OK {sent|repeated seq timestamp channel_seq} | NOT_FOUND | MESSAGE_ID_CONFLICT
-- INCLUDE: keys clock stats mail visible
-- Subscribers that are away find it in their mailboxes, see include/mail_sync.lua; mailed is the payload they find, ''
-- if that is the payload with the channel's name added.

if not sees_channel(name, sender, privileged) then return {'NOT_FOUND'} end
local m = {id = id, from = sender, type = type, payload = payload, reply_to = reply_to, timestamp = now}
local before = sent_before(m, digest, remember_ms)
if before then return before end
local seq = next_mail_seq()
local channel_seq = redis.call('HINCRBY', channel_key(name), 'seq', 1)
redis.call('HSET', channel_key(name), 'last', digits(seq))
file_message(m, seq, 'published', digest, tonumber(history_cap))
redis.call('HSET', message_key(id), 'channel', name, 'channel_seq', channel_seq)
remember_id(m, seq, digest, remember_ms, channel_seq)
local fields = {'n', digits(seq), 'id', id, 'from', sender, 'type', type, 'payload', payload, 'timestamp', now}
local function add(field, value)
  if value ~= '' then
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
end
add('reply_to', reply_to)
add('mailed', mailed)
redis.call('XADD', channel_log_key(name), 'MAXLEN', '~', log_cap, channel_seq .. '-0', unpack(fields))
push_to_all('kind', 'post', 'channel', name, 'seq', digits(seq), 'sender', sender, 'frame',
  message_frame('channel_message', m, ',"channel":"' .. name .. '","seq":' .. channel_seq .. ',"mail_seq":' .. digits(seq)))
count_message(sender, {})
return {'OK', 'sent', digits(seq), now, channel_seq}
