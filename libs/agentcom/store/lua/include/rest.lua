-- Rest after a rejection. Needs keys clock events sets agent_state.

-- Ends the rest of an agent that rejected a task. An agent that reports the end of any run is free, even if the report
-- itself is refused.
local function unblock(agent_id)
  local agent = redis.call('HMGET', agent_key(agent_id), 'state', 'capabilities', 'unresponsive')
  if agent[1] ~= 'blocked' then return end
  redis.call('ZREM', due_key('unblock'), agent_id)
  make_idle(agent_id, agent[2] or '', agent[3])
  request_match('agent', agent_id)
end

-- The report of an agent was refused. One that holds a task without a record would hold it for ever.
local function free_after_refusal(agent_id, task_id, task)
  if not task then release_agent(agent_id, task_id, false) end
  unblock(agent_id)
end
