-- Coming and going of agents. Needs keys clock stats events sets agent_state mail mail_sync.

-- Takes a connected agent off its connection: out of the lists, and out of the idle sets if it waited for work.
local function detach(agent_id, state, capabilities, gateway)
  if state == 'idle' then leave_idle(agent_id, capabilities) end
  if state == 'blocked' then redis.call('ZREM', due_key('unblock'), agent_id) end
  count_capabilities(capabilities, -1)
  redis.call('SREM', gateway_agents_key(gateway), agent_id)
end

-- A connected agent is gone. Without a task it is forgotten; with one it has grace_ms to come back and carry on,
-- during which nobody expects progress. The time to accept runs on, see agent/connect.
-- written is the number up to which all mail was written to its socket, nil if nobody knows.
local function disconnect(agent_id, reason, grace_ms, written)
  local agent = redis.call('HMGET', agent_key(agent_id), 'state', 'capabilities', 'gateway', 'task', 'connected_at',
    'mail_seq')
  detach(agent_id, agent[1], agent[2] or '', agent[3])
  end_of_mail(agent_id, agent[3], agent[6], written)
  redis.call('ZREM', agents_key(), agent_id)
  redis.call('ZREM', seen_key(), agent_id)
  if agent[4] then
    redis.call('HSET', agent_key(agent_id), 'state', 'offline', 'last_state_change', stamp)
    redis.call('HDEL', agent_key(agent_id), 'gateway', 'conn', 'mail_seq')
    redis.call('ZADD', due_key('grace'), now + grace_ms, agent_id)
    redis.call('ZADD', due_key('progress'), 'XX', 'GT', now + grace_ms, agent[4])
  else
    redis.call('DEL', agent_key(agent_id))
  end
  local connected_ms = now - tonumber(agent[5] or now)
  emit('agent_left', 'agent_id', agent_id, 'reason', reason, 'connected_ms', connected_ms)
  count_leave(agent_id, connected_ms)
  publish_presence('agent_left', agent_id)
end
