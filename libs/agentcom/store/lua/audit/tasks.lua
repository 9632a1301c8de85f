#!lua flags=no-writes
-- audit/tasks: everything that says where each of some tasks is, at one moment.
-- ARGV: task_ids...
-- RETURNS: OK {one list per task: fields of the hash, scores in the places, the assigned agent's task generation state}
-- INCLUDE: keys

local FIELDS = {'status', 'signature', 'listing', 'score', 'assigned_to', 'generation', 'accepted_at', 'max_runtime_ms',
  'cancel_requested_at', 'expires_at', 'complete_by'}
local reply = {'OK'}
for _, id in ipairs(task_ids) do
  local facts = redis.call('HMGET', task_key(id), unpack(FIELDS))
  local signature, agent_id = facts[2], facts[5]
  for _, status in ipairs({'queued', 'delayed', 'assigned', 'completed', 'cancelled', 'dead_letter'}) do
    facts[#facts + 1] = redis.call('ZSCORE', status_key(status), id)
  end
  for _, kind in ipairs({'accept', 'progress', 'runtime', 'cancel', 'delayed', 'expires', 'complete_by'}) do
    facts[#facts + 1] = redis.call('ZSCORE', due_key(kind), id)
  end
  facts[#facts + 1] = redis.call('ZSCORE', finished_key(), id)
  facts[#facts + 1] = redis.call('ZSCORE', dead_key(), id)
  facts[#facts + 1] = signature and redis.call('ZSCORE', queue_key(signature), id) or false
  local agent = agent_id and redis.call('HMGET', agent_key(agent_id), 'task', 'generation', 'state')
    or {false, false, false}
  for i = 1, 3 do facts[#facts + 1] = agent[i] end
  reply[#reply + 1] = facts
end
return reply
