#!lua flags=no-writes
-- channel/history: posts of a channel, oldest first: the first limit of those after a number (after), or the last limit
-- of those before one (before; '' for the end).
-- ARGV: name agent_id privileged after before limit log_cap
-- RETURNS: OK {seq id from type payload reply_to timestamp per post} | NOT_FOUND
-- INCLUDE: keys visible

if not sees_channel(name, agent_id, privileged) then return {'NOT_FOUND'} end
if tonumber(limit) == 0 or before == '0' then return {'OK'} end
local first = math.max(tonumber(redis.call('HGET', channel_key(name), 'seq')) - log_cap, 0)
local entries
if after ~= '' then
  local low = string.format('(%.0f-0', math.max(first, tonumber(after)))
  entries = redis.call('XRANGE', channel_log_key(name), low, '+', 'COUNT', limit)
else
  local high = before == '' and '+' or '(' .. before .. '-0'
  entries = redis.call('XREVRANGE', channel_log_key(name), high, '(' .. first .. '-0', 'COUNT', limit)
end
local reply = {'OK'}
local from, to, step = 1, #entries, 1
if after == '' then from, to, step = #entries, 1, -1 end
for i = from, to, step do
  local fields = {}
  local flat = entries[i][2]
  for f = 1, #flat, 2 do fields[flat[f]] = flat[f + 1] end
  reply[#reply + 1] = string.match(entries[i][1], '^%d+')
  for _, field in ipairs({'id', 'from', 'type', 'payload', 'reply_to', 'timestamp'}) do
    reply[#reply + 1] = fields[field] or ''
  end
end
return reply
