#!lua flags=no-writes
-- audit/agents: everything that says what each of some agents is doing, at one moment.
-- ARGV: agent_ids...
-- RETURNS: OK {one list per agent: fields of the hash, scores in the lists, in its gateway's set, the gateway's lease, its task's status assigned_to generation accepted_at, then capabilities it has but does not wait under}
-- INCLUDE: keys sets

local reply = {'OK'}
for _, id in ipairs(agent_ids) do
  local facts = redis.call('HMGET', agent_key(id), 'state', 'capabilities', 'task', 'generation', 'gateway', 'conn')
  local capabilities, task_id, gateway = facts[2], facts[3], facts[5]
  facts[#facts + 1] = redis.call('ZSCORE', agents_key(), id)
  facts[#facts + 1] = redis.call('ZSCORE', seen_key(), id)
  facts[#facts + 1] = redis.call('ZSCORE', idle_any_key(), id)
  facts[#facts + 1] = redis.call('ZSCORE', due_key('grace'), id)
  facts[#facts + 1] = redis.call('ZSCORE', due_key('unblock'), id)
  facts[#facts + 1] = gateway and redis.call('SISMEMBER', gateway_agents_key(gateway), id) or 0
  facts[#facts + 1] = gateway and redis.call('ZSCORE', gateways_key(), gateway) or false
  local task = task_id and redis.call('HMGET', task_key(task_id), 'status', 'assigned_to', 'generation', 'accepted_at')
    or {false, false, false, false}
  for i = 1, 4 do facts[#facts + 1] = task[i] end
  for _, capability in ipairs(split(capabilities or '')) do
    if not redis.call('ZSCORE', idle_key(capability), id) then facts[#facts + 1] = capability end
  end
  reply[#reply + 1] = facts
end
return reply
