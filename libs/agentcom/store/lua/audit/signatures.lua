#!lua flags=no-writes
-- audit/signatures: how the queues of some signatures are filed, at one moment.
-- ARGV: signatures...
-- RETURNS: OK {one list per signature: whether its kind is filed, the queue's head score, where it is filed, the score there}
-- INCLUDE: keys clock sets queue

local reply = {'OK'}
for _, signature in ipairs(signatures) do
  local head = redis.call('ZRANGE', queue_key(signature), 0, 0, 'WITHSCORES')
  local capability = redis.call('HGET', filed_key(), signature)
  reply[#reply + 1] = {is_filed_kind(signature) and 1 or 0, head[2] or false, capability,
    capability and redis.call('ZSCORE', signatures_key(capability), signature) or false}
end
return reply
