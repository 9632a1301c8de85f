#!lua flags=no-writes
-- message/page: messages from the history that an agent may see and that pass the filters, after a number (order asc,
-- oldest first) or before one (order desc, newest first). Looks at no more than steps of them.
-- ARGV: agent_id privileged sender recipient channel start_time end_time cursor order limit steps
-- RETURNS: OK {done last_looked_at id from to channel type payload reply_to timestamp seq state state_at reason per message}
-- INCLUDE: keys visible
-- '' for no filter and no cursor. done is 1 when there is nothing left to look at.

local low, high = '-inf', '+inf'
if order == 'asc' and cursor ~= '' then low = '(' .. cursor end
if order == 'desc' and cursor ~= '' then high = '(' .. cursor end
local listed
if order == 'asc' then
  listed = redis.call('ZRANGEBYSCORE', messages_key(), low, high, 'WITHSCORES', 'LIMIT', 0, steps)
else
  listed = redis.call('ZREVRANGEBYSCORE', messages_key(), high, low, 'WITHSCORES', 'LIMIT', 0, steps)
end

local function passes(message)
  local at = tonumber(message[7] or 0)
  return (sender == '' or message[1] == sender) and (recipient == '' or message[2] == recipient) and
    (channel == '' or message[3] == channel) and (start_time == '' or at >= tonumber(start_time)) and
    (end_time == '' or at <= tonumber(end_time)) and sees_message(message, agent_id, privileged)
end

local reply, found = {'OK', #listed < 2 * steps and 1 or 0, cursor}, 0
for i = 1, #listed, 2 do
  local message = load_message(listed[i])
  reply[3] = string.format('%.0f', tonumber(listed[i + 1]))
  if passes(message) then
    found = found + 1
    append_message(reply, listed[i], message)
    if found == tonumber(limit) then
      if i + 1 < #listed then reply[2] = 0 end
      break
    end
  end
end
return reply
