#!lua
-- agent/connect: offline -> idle, or back to the task it holds. A connection the agent has elsewhere is closed: the
-- newest wins.
-- ARGV: agent_id conn gateway token_digest name status capabilities capabilities_sent features progress_timeout_ms mailbox_cap
-- RETURNS: OK {assign_frame cancel_frame mail_seq} | COOLDOWN {remaining_ms} | INVALID_TOKEN | TOKEN_AGENT_MISMATCH | GATEWAY_LEASE_LOST
-- EVENTS: agent_joined
-- INCLUDE: keys clock stats events sets queue agent_state match mail mail_sync presence
-- assign_frame: an assignment the agent has not accepted, to be pushed again; cancel_frame: a cancel it may not have
-- seen; '' if none. mail_seq is the number of the latest message: what the agent missed up to it is in its mailbox, what
-- comes after it is pushed. capabilities is the joined set, capabilities_sent the JSON list as the client sent it.
-- The time to accept runs on while an agent comes and goes: one that dies of its task again and again loses it.

local lease = redis.call('ZSCORE', gateways_key(), gateway)
if not lease or tonumber(lease) <= now then return {'GATEWAY_LEASE_LOST'} end
local cooldown_until = tonumber(redis.call('HGET', violations_key(agent_id), 'until') or 0)
if cooldown_until > now then return {'COOLDOWN', cooldown_until - now} end
local holder = redis.call('HGET', tokens_key(), token_digest)
if not holder then return {'INVALID_TOKEN'} end
if cjson.decode(holder).agent_id ~= agent_id then return {'TOKEN_AGENT_MISMATCH'} end

local key = agent_key(agent_id)
local before = redis.call('HMGET', key, 'state', 'capabilities', 'gateway', 'conn', 'task', 'generation', 'unresponsive',
  'mail_seq')
if before[4] and before[4] ~= conn then
  push_close(before[3], before[4], 4500, 'replaced by a newer connection of the same agent')
end
if before[4] then
  detach(agent_id, before[1], before[2] or '', before[3])
  -- The same connection once more had no answer yet, and so nothing was written to it.
  if before[4] ~= conn then end_of_mail(agent_id, before[3], before[8], nil) end
end
redis.call('ZREM', due_key('grace'), agent_id)
redis.call('HSET', key, 'agent_id', agent_id, 'conn', conn, 'gateway', gateway, 'capabilities', capabilities,
  'capabilities_sent', capabilities_sent, 'features', features, 'connected_at', stamp, 'token', token_digest)
redis.call('HDEL', key, 'name', 'status', 'rejections', 'mail_seq')
if name ~= '' then redis.call('HSET', key, 'name', name) end
if status ~= '' then redis.call('HSET', key, 'status', status) end
redis.call('ZADD', agents_key(), 0, agent_id)
redis.call('ZADD', seen_key(), stamp, agent_id)
redis.call('SADD', gateway_agents_key(gateway), agent_id)
count_capabilities(capabilities, 1)
emit('agent_joined', 'agent_id', agent_id, 'gateway', gateway)
count_connect(agent_id)

local channels = subscribed_channels(agent_id)
local mail_seq = sync_mail(agent_id, channels, tonumber(mailbox_cap))
if mail_seq > 0 then redis.call('HSET', key, 'mail_seq', digits(mail_seq)) end
if channels[1] then
  local heard = {}
  for i, channel in ipairs(channels) do heard[i] = channel.name end
  redis.call('XADD', outbox_key(gateway), '*', 'conn', conn, 'kind', 'listen', 'channel', table.concat(heard, ' '))
end

local assignment, cancellation = '', ''
local task_id = before[5]
local task = task_id and redis.call('HMGET', task_key(task_id), 'accepted_at', 'cancel_requested_at', 'cancel_reason',
  'status')
if task and task[4] then
  redis.call('HSET', key, 'state', task[1] and 'working' or 'assigned', 'last_state_change', stamp)
  if task[1] then
    redis.call('ZADD', due_key('progress'), 'XX', now + progress_timeout_ms, task_id)
  else
    local unaccepted = load_for_assignment(task_id)
    assignment = assign_frame(task_id, before[6], unaccepted, unaccepted.assigned_at)
  end
  if task[2] then cancellation = cancel_frame(task_id, before[6], task[3] or '') end
else
  make_idle(agent_id, capabilities, before[7])
  request_match('agent', agent_id)
end
publish_presence('agent_joined', agent_id, describe_agent(agent_id))
return {'OK', assignment, cancellation, digits(mail_seq)}
