#!lua flags=no-writes
-- audit/messages: everything that says where each of some messages is, at one moment.
-- ARGV: ids...
-- RETURNS: OK {one list per message: to state seq reply_to of its record, its score in the history and among the answers, the record's time to live, and how often its number is in its recipient's mailbox}
-- INCLUDE: keys

local reply = {'OK'}
for _, id in ipairs(ids) do
  local facts = redis.call('HMGET', message_key(id), 'to', 'state', 'seq', 'reply_to')
  local to, seq, parent = facts[1], facts[3], facts[4]
  facts[#facts + 1] = redis.call('ZSCORE', messages_key(), id)
  facts[#facts + 1] = parent and redis.call('ZSCORE', replies_key(parent), id)
  facts[#facts + 1] = redis.call('PTTL', message_key(id))
  facts[#facts + 1] = to and seq and redis.call('ZCOUNT', mailbox_key(to), seq, seq) or 0
  reply[#reply + 1] = facts
end
return reply
