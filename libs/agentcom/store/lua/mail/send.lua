#!lua
-- mail/send: a message to one agent: into its mailbox, the history and the threads, and to its socket if it has one.
-- ARGV: id sender recipient type payload reply_to digest remember_ms mailbox_cap history_cap
-- RETURNS: OK {sent|repeated seq timestamp 0} | UNKNOWN_AGENT | MESSAGE_ID_CONFLICT
-- INCLUDE: keys clock stats mail
-- digest is of everything the sender said; remember_ms above 0 if the sender chose the id. What an agent was sent while
-- it is connected is on its way to its socket, so more of it is kept than of an agent that is away.

local m = {id = id, from = sender, to = recipient, type = type, payload = payload, reply_to = reply_to, timestamp = now}
local before = sent_before(m, digest, remember_ms)
if before then return before end
local agent = redis.call('HMGET', agent_key(recipient), 'gateway', 'conn', 'agent_id')
if not agent[3] and redis.call('EXISTS', agent_tokens_key(recipient)) == 0 then return {'UNKNOWN_AGENT'} end

local seq = next_mail_seq()
file_message(m, seq, 'queued', digest, tonumber(history_cap))
remember_id(m, seq, digest, remember_ms, 0)
deposit(recipient, seq, envelope(m))
bound_mailbox(recipient, tonumber(mailbox_cap) * (agent[2] and 10 or 1), 100)
if agent[2] then
  local more = ',"to":' .. cjson.encode(recipient) .. ',"seq":' .. digits(seq)
  redis.call('XADD', outbox_key(agent[1]), '*', 'conn', agent[2], 'kind', 'mail', 'frame',
    message_frame('message', m, more), 'seq', digits(seq), 'id', id)
end
count_message(sender, {recipient})
return {'OK', 'sent', digits(seq), now, 0}
