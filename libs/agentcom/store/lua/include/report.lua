-- Reports of an agent about the end of its run. Needs keys clock events sets queue agent_state match task_state.
-- What became of a run is kept in the task under the run's generation, so that a repeated report gets the same answer.

-- The field and value of a task's hash that keep what became of a run.
local function kept_report(generation, agent_id, kind, outcome)
  return 'report:' .. generation, kind .. ':' .. outcome .. ':' .. agent_id
end

-- The outcome of an earlier report of the same kind and agent about the generation the task was loaded with, or nil.
local function repeated_report(task, agent_id, kind)
  if not task or not task.report then return nil end
  local stored_kind, outcome, owner = string.match(task.report, '^([^:]*):([^:]*):(.*)$')
  if stored_kind == kind and owner == agent_id then return outcome end
  return nil
end

-- After a report was taken: the agent gets its next task, or waits for one. Returns the task_assign frame for the
-- reporting connection, or ''. Another connection than the agent's current one gets none; that one is pushed to.
local function next_for(agent_id, task_id, conn, accept_timeout_ms)
  local agent = redis.call('HMGET', agent_key(agent_id), 'task', 'state', 'capabilities', 'gateway', 'conn',
    'unresponsive', 'rejections')
  if agent[1] ~= task_id then return '' end
  if agent[2] == 'offline' then
    forget_agent(agent_id)
    return ''
  end
  if agent[6] or agent[7] then redis.call('HDEL', agent_key(agent_id), 'unresponsive', 'rejections') end
  local capabilities = agent[3] or ''
  local frame, left_out = nil, false
  if gateway_alive(agent[4]) then
    frame, left_out = assign_next(agent_id, capabilities, accept_timeout_ms, 0)
  end
  if left_out then request_match('agent', agent_id, SEARCH_STEPS) end
  if not frame then
    make_idle(agent_id, capabilities, false)
    return ''
  end
  if agent[5] == conn then return frame end
  push(agent[4], agent[5], 'assign', frame)
  return ''
end

-- The assignment that an agent holds on this connection without having accepted it, to be pushed once more: the reply
-- that carried it may have been lost together with the answer to the first report. '' if there is none.
local function pending_assignment(agent_id, conn)
  local agent = redis.call('HMGET', agent_key(agent_id), 'state', 'task', 'conn')
  if agent[1] ~= 'assigned' or agent[3] ~= conn then return '' end
  local task = load_for_assignment(agent[2])
  return assign_frame(agent[2], redis.call('HGET', agent_key(agent_id), 'generation'), task, task.assigned_at)
end
