#!lua flags=no-writes
-- audit/idle: which of some agents wait for work although a queued task waits for them, at one moment.
-- ARGV: skip agent_ids...
-- RETURNS: OK {per agent: the id of that task or '', and whether a further step (a larger skip) may find one}
-- INCLUDE: keys clock events sets queue agent_state match
-- Agents of a gateway without a lease are on their way out and are not given work.

local reply = {'OK'}
for _, agent_id in ipairs(agent_ids) do
  local agent = redis.call('ZSCORE', idle_any_key(), agent_id) and usable(agent_id)
  local task_id, left_out
  if agent then
    local signature
    task_id, signature, left_out = find_task(agent_id, agent.capabilities, tonumber(skip))
  end
  reply[#reply + 1] = task_id or ''
  reply[#reply + 1] = left_out and 1 or 0
end
return reply
