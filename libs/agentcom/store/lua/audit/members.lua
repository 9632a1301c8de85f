#!lua flags=no-writes
-- audit/members: whether members that were seen in an index belong there, at one moment.
-- ARGV: kind index names...
-- RETURNS: OK {per name: '' if it belongs there or is gone, else what the name's own record says}
-- INCLUDE: keys sets
-- kind queue: index is a signature, names are task ids. kind idle: index is a capability, names are agent ids.
-- kind filed: index is a capability, names are signatures. kind gateway: index is a gateway, names are agent ids.
-- kind subscribers: index is a channel, names are agent ids. kind replies: index is a message, names are its answers.

local function judge(name)
  if kind == 'queue' then
    if not redis.call('ZSCORE', queue_key(index), name) then return '' end
    local task = redis.call('HMGET', task_key(name), 'status', 'signature')
    if task[1] == 'queued' and task[2] == index then return '' end
    return 'status ' .. (task[1] or 'none') .. ', ' .. (task[2] == index and 'this' or 'another') .. ' signature'
  elseif kind == 'idle' then
    if not redis.call('ZSCORE', idle_key(index), name) then return '' end
    local agent = redis.call('HMGET', agent_key(name), 'state', 'capabilities')
    for _, capability in ipairs(split(agent[2] or '')) do
      if capability == index and agent[1] == 'idle' then return '' end
    end
    return 'state ' .. (agent[1] or 'none')
  elseif kind == 'subscribers' then
    if not redis.call('ZSCORE', subscribers_key(index), name) then return '' end
    if redis.call('ZSCORE', subscriptions_key(name), index) then return '' end
    return 'not among the subscriptions of the agent'
  elseif kind == 'replies' then
    if not redis.call('ZSCORE', replies_key(index), name) then return '' end
    local parent = redis.call('HGET', message_key(name), 'reply_to')
    if parent ~= index then return 'answers ' .. (parent or 'nothing') end
    return redis.call('ZSCORE', messages_key(), name) and '' or 'not in the history'
  elseif kind == 'filed' then
    if not redis.call('ZSCORE', signatures_key(index), name) then return '' end
    local capability = redis.call('HGET', filed_key(), name)
    if capability == index then return '' end
    return 'filed under ' .. (capability or 'nothing')
  end
  if redis.call('SISMEMBER', gateway_agents_key(index), name) == 0 then return '' end
  local gateway = redis.call('HGET', agent_key(name), 'gateway')
  if gateway == index then return '' end
  return 'connected to ' .. (gateway or 'nothing')
end

local reply = {'OK'}
for _, name in ipairs(names) do reply[#reply + 1] = judge(name) end
return reply
