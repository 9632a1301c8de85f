-- Broadcasts and posts for agents that were away. Needs keys clock mail.
-- A broadcast is stored once, a post once in its channel's log. Connected agents are written to by their gateways. What
-- an agent missed is copied into its mailbox when it polls or connects: everything after its cursor, which says up to
-- which number broadcasts and posts have reached its socket or its mailbox.

-- The time from which on broadcasts are an agent's business, as a number: when it was registered.
local function registered_at(agent_id)
  local digests = redis.call('SRANDMEMBER', agent_tokens_key(agent_id), 16)
  local first = nil
  for _, digest in ipairs(digests) do
    local token = redis.call('HGET', tokens_key(), digest)
    local at = token and cjson.decode(token).created_at
    if at and (not first or at < first) then first = at end
  end
  return first and first * 1000 or now_us
end

local function mail_cursor(agent_id)
  return tonumber(redis.call('HGET', mail_cursors_key(), agent_id) or registered_at(agent_id))
end

local function advance_cursor(agent_id, seq)
  local before = tonumber(redis.call('HGET', mail_cursors_key(), agent_id) or 0)
  if seq > before then redis.call('HSET', mail_cursors_key(), agent_id, digits(seq)) end
end

local function fields_of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return fields
end

-- Both return how many they copied.
local function copy_broadcasts(agent_id, cursor, cap)
  local copied = 0
  local missed = redis.call('XREVRANGE', broadcasts_key(), '+', '(' .. digits(cursor) .. '-0', 'COUNT', cap)
  for _, entry in ipairs(missed) do
    local fields = fields_of(entry)
    if fields.from ~= agent_id then
      deposit(agent_id, tonumber(fields.n), fields.entry)
      copied = copied + 1
    end
  end
  return copied
end

-- A post's payload as it lies in mailboxes: with the channel's name in it. The publisher gives it where the payload has
-- a field of that name already.
local function payload_with_channel(post, name)
  if post.mailed then return post.mailed end
  if post.payload == '{}' then return '{"channel":"' .. name .. '"}' end
  return string.sub(post.payload, 1, -2) .. ',"channel":"' .. name .. '"}'
end

local function copy_posts(agent_id, name, after, cap)
  local copied = 0
  for _, entry in ipairs(redis.call('XREVRANGE', channel_log_key(name), '+', '-', 'COUNT', cap)) do
    local post = fields_of(entry)
    local seq = tonumber(post.n)
    if seq <= after then break end
    if post.from ~= agent_id then
      post.payload = payload_with_channel(post, name)
      deposit(agent_id, seq, envelope(post))
      copied = copied + 1
    end
  end
  return copied
end

-- The channels an agent has subscribed to, each with the number at which it did. Leftovers of deleted channels are
-- removed on the way.
local function subscribed_channels(agent_id)
  local found = {}
  for _, name in ipairs(redis.call('ZRANGEBYLEX', subscriptions_key(agent_id), '-', '+', 'LIMIT', 0, 1000)) do
    local since = redis.call('ZSCORE', subscribers_key(name), agent_id)
    if since then
      found[#found + 1] = {name = name, since = tonumber(since)}
    else
      redis.call('ZREM', subscriptions_key(agent_id), name)
    end
  end
  return found
end

-- Copies what an agent without a connection has missed into its mailbox. Returns the latest number, 0 if there is none.
local function sync_mail(agent_id, channels, cap)
  local latest = tonumber(redis.call('GET', mail_seq_key()) or 0)
  if latest == 0 then return 0 end
  local cursor = mail_cursor(agent_id)
  if cursor >= latest then return latest end
  local copied = copy_broadcasts(agent_id, cursor, cap)
  for _, channel in ipairs(channels) do
    local last = tonumber(redis.call('HGET', channel_key(channel.name), 'last') or 0)
    local after = math.max(cursor, channel.since)
    if last > after then copied = copied + copy_posts(agent_id, channel.name, after, cap) end
  end
  if copied > 0 then
    bound_mailbox(agent_id, cap, copied + 100)
    advance_cursor(agent_id, latest)
  end
  return latest
end

-- A connection of an agent has ended. since is the latest number when it began (nil if there was none), written the
-- number up to which everything was written to it; unknown, what its gateway last said of all its sockets counts.
local function end_of_mail(agent_id, gateway, since, written)
  if not written then written = redis.call('HGET', written_key(), gateway) end
  local reached = math.max(tonumber(since or 0), tonumber(written or 0))
  if reached > 0 then advance_cursor(agent_id, reached) end
end
