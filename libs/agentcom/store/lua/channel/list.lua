#!lua flags=no-writes
-- channel/list: channels that exist for an agent, in the order of their names, after a name.
-- ARGV: after agent_id privileged limit
-- RETURNS: OK {cursor name description created_at created_by private subscribers per channel}
-- INCLUDE: keys visible
-- cursor is the last name looked at if there are more, else ''. A page may have fewer channels than limit.

local low = after == '' and '-' or '(' .. after
local names = redis.call('ZRANGEBYLEX', channels_key(), low, '+', 'LIMIT', 0, limit + 1)
local more = #names > tonumber(limit)
local reply = {'OK', more and names[#names - 1] or ''}
for i = 1, more and #names - 1 or #names do
  local name = names[i]
  if sees_channel(name, agent_id, privileged) then
    local channel = redis.call('HMGET', channel_key(name), 'description', 'created_at', 'created_by', 'private')
    reply[#reply + 1] = name
    for field = 1, 4 do reply[#reply + 1] = channel[field] end
    reply[#reply + 1] = redis.call('ZCARD', subscribers_key(name))
  end
end
return reply
