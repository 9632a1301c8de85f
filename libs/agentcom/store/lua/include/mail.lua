-- Messages: records, history, threads, mailboxes. Needs keys clock.
-- Every message has a number (seq) that orders all of them. A message's hash is its record; `messages` lists the newest
-- of them, `replies:<id>` the answers among those. A direct message lies in its recipient's mailbox until it was written
-- to a socket, acknowledged or dropped, and its state is queued exactly as long.

-- How a number is written: Lua would round it.
local function digits(number) return string.format('%.0f', number) end

-- The next number: microseconds since 1970, or one more than the last if the clock has not moved on. Never given twice.
local function next_mail_seq()
  local seq = math.max(tonumber(redis.call('GET', mail_seq_key()) or 0) + 1, now_us)
  redis.call('SET', mail_seq_key(), digits(seq))
  return seq
end

local function json_or_null(text)
  if not text or text == '' then return 'null' end
  return cjson.encode(text)
end

-- A message as it lies in mailboxes: JSON text that begins with the id.
local function envelope(m)
  return '{"id":"' .. m.id .. '","from":' .. cjson.encode(m.from) .. ',"to":' .. json_or_null(m.to) .. ',"type":' ..
    cjson.encode(m.type) .. ',"payload":' .. m.payload .. ',"reply_to":' .. json_or_null(m.reply_to) ..
    ',"timestamp":' .. m.timestamp .. '}'
end

-- A message as it is pushed: kind is message or channel_message, more is JSON text of further fields.
local function message_frame(kind, m, more)
  return '{"type":"' .. kind .. '","id":"' .. m.id .. '","from":' .. cjson.encode(m.from) .. ',"message_type":' ..
    cjson.encode(m.type) .. ',"payload":' .. m.payload .. ',"reply_to":' .. json_or_null(m.reply_to) ..
    ',"timestamp":' .. m.timestamp .. more .. '}'
end

-- Out of history and threads. A message that still waits in a mailbox keeps its record.
local function unlist_message(id)
  local message = redis.call('HMGET', message_key(id), 'reply_to', 'state')
  if message[1] then redis.call('ZREM', replies_key(message[1]), id) end
  if message[2] ~= 'queued' then redis.call('DEL', message_key(id)) end
end

-- Writes a message's record and lists it; what is too many is taken off the lists, a few with each message.
local function file_message(m, seq, state, digest, history_cap)
  redis.call('HSET', message_key(m.id), 'from', m.from, 'type', m.type, 'payload', m.payload,
    'timestamp', m.timestamp, 'seq', digits(seq), 'state', state, 'state_at', m.timestamp, 'digest', digest)
  if m.to then redis.call('HSET', message_key(m.id), 'to', m.to) end
  if m.reply_to ~= '' then
    redis.call('HSET', message_key(m.id), 'reply_to', m.reply_to)
    redis.call('ZADD', replies_key(m.reply_to), seq, m.id)
  end
  redis.call('ZADD', messages_key(), seq, m.id)
  local excess = redis.call('ZCARD', messages_key()) - history_cap
  if excess > 0 then
    local oldest = redis.call('ZPOPMIN', messages_key(), math.min(excess, 4))
    for i = 1, #oldest, 2 do unlist_message(oldest[i]) end
  end
end

-- Whether a message with this id was sent before: nil if not, else the reply to give. The same message by the same
-- sender is the same call sent again. With a time to live the id is remembered even after its message is forgotten.
local function sent_before(m, digest, remember_ms)
  local stored = redis.call('HMGET', message_key(m.id), 'from', 'digest', 'seq', 'timestamp', 'channel_seq')
  if not stored[1] and remember_ms ~= '0' then
    local kept = redis.call('HMGET', idempotency_key(m.from, 'message:' .. m.id), 'body', 'seq', 'created_at', 'post')
    if kept[1] then stored = {m.from, kept[1], kept[2], kept[3], kept[4]} end
  end
  if not stored[1] then return nil end
  if stored[1] ~= m.from or stored[2] ~= digest then return {'MESSAGE_ID_CONFLICT'} end
  return {'OK', 'repeated', stored[3], stored[4], stored[5] or 0}
end

local function remember_id(m, seq, digest, remember_ms, channel_seq)
  if remember_ms == '0' then return end
  local key = idempotency_key(m.from, 'message:' .. m.id)
  redis.call('HSET', key, 'body', digest, 'seq', digits(seq), 'created_at', m.timestamp, 'post', channel_seq)
  redis.call('PEXPIRE', key, remember_ms)
end

-- A direct message leaves its recipient's mailbox; only the first end counts. A record that is not listed any more is
-- kept for a day, so that its sender can still ask.
local function end_delivery(id, agent_id, state, reason)
  local message = redis.call('HMGET', message_key(id), 'to', 'state')
  if message[1] ~= agent_id or message[2] ~= 'queued' then return end
  redis.call('HSET', message_key(id), 'state', state, 'state_at', stamp)
  if reason then redis.call('HSET', message_key(id), 'reason', reason) end
  if not redis.call('ZSCORE', messages_key(), id) then redis.call('PEXPIRE', message_key(id), 86400000) end
end

-- The id of a message in a mailbox.
local function id_of(entry) return string.match(entry, '^{"id":"([^"]*)"') end

local function deposit(agent_id, seq, entry)
  redis.call('ZADD', mailbox_key(agent_id), seq, entry)
  redis.call('ZADD', mailboxes_key(), 'LT', seq, agent_id)
end

-- Drops the oldest messages of a mailbox that holds more than cap, and no more than most of them.
local function bound_mailbox(agent_id, cap, most)
  local excess = redis.call('ZCARD', mailbox_key(agent_id)) - cap
  if excess <= 0 then return end
  local dropped = redis.call('ZPOPMIN', mailbox_key(agent_id), math.min(excess, most))
  for i = 1, #dropped, 2 do end_delivery(id_of(dropped[i]), agent_id, 'dead', 'mailbox_full') end
end

-- Hands every gateway one entry that is for many of its sockets: field, value pairs.
local function push_to_all(...)
  local gateways = redis.call('ZRANGEBYSCORE', gateways_key(), '(' .. now, '+inf', 'LIMIT', 0, 1000)
  for _, gateway in ipairs(gateways) do redis.call('XADD', outbox_key(gateway), '*', ...) end
end
