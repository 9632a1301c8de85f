-- Bringing a queued task and an idle agent together. Needs keys clock events sets queue agent_state.
-- Invariant kept by its callers: at rest, no idle agent could serve a queued task.

-- Candidates that one search looks at before it leaves the rest to the scheduler.
local SEARCH_STEPS = 64

local function gateway_alive(gateway)
  local lease = gateway and redis.call('ZSCORE', gateways_key(), gateway)
  return lease and tonumber(lease) > now
end

local function assign_frame(task_id, generation, task, assigned_at)
  local frame = '{"type":"task_assign","task_id":"' .. task_id .. '","description":' .. cjson.encode(task.description) ..
    ',"metadata":' .. task.metadata .. ',"generation":' .. generation .. ',"assigned_at":' .. assigned_at ..
    ',"priority":' .. task.priority
  if task.complete_by then frame = frame .. ',"complete_by":' .. task.complete_by end
  return frame .. '}'
end

local function load_for_assignment(task_id)
  local t = redis.call('HMGET', task_key(task_id), 'description', 'metadata', 'priority', 'listing', 'created_at',
    'expires_at', 'complete_by', 'signature', 'assigned_at')
  return {description = t[1], metadata = t[2], priority = t[3], listing = t[4], created_at = t[5],
    expires_at = t[6], complete_by = t[7], signature = t[8], assigned_at = t[9]}
end

local function assigned_details(agent_id, generation)
  return '{"agent_id":' .. cjson.encode(agent_id) .. ',"generation":' .. generation .. '}'
end

-- Into assigned, all but the task's own hash and history. Returns the task_assign frame.
local function hand_over(task_id, task, agent_id, generation, accept_timeout_ms)
  redis.call('ZADD', status_key('assigned'), task.listing, task_id)
  redis.call('ZADD', due_key('accept'), now + accept_timeout_ms, task_id)
  redis.call('HSET', agent_key(agent_id), 'state', 'assigned', 'task', task_id, 'generation', generation,
    'last_state_change', stamp)
  emit('task_assigned', 'task_id', task_id, 'agent_id', agent_id, 'generation', generation,
    'wait_ms', now - tonumber(task.created_at))
  return assign_frame(task_id, generation, task, stamp)
end

-- queued -> assigned. The caller has taken the task out of its queue. Returns the task_assign frame.
local function assign(task_id, task, agent_id, accept_timeout_ms)
  local key = task_key(task_id)
  local generation = string.format('%d', redis.call('HINCRBY', key, 'generation', 1))
  redis.call('HSET', key, 'status', 'assigned', 'assigned_to', agent_id, 'assigned_at', stamp, 'updated_at', stamp)
  record(task_id, 'assigned', assigned_details(agent_id, generation))
  return hand_over(task_id, task, agent_id, generation, accept_timeout_ms)
end

local function usable(agent_id)
  local agent = redis.call('HMGET', agent_key(agent_id), 'gateway', 'conn', 'capabilities')
  if not gateway_alive(agent[1]) then return nil end
  return {id = agent_id, gateway = agent[1], conn = agent[2], capabilities = agent[3] or ''}
end

-- The idle agent for a signature that was busy longest ago. Returns the agent or nil, and whether candidates after
-- the first `skip + SEARCH_STEPS` were left out.
local function find_agent(signature, skip)
  local pinned = pinned_agent(signature)
  if pinned then
    if redis.call('ZSCORE', idle_any_key(), pinned) then return usable(pinned), false end
    return nil, false
  end
  local capabilities = split(signature)
  local source, smallest = idle_any_key(), nil
  for i, capability in ipairs(capabilities) do
    local size = 0
    if #capabilities > 1 then size = redis.call('ZCARD', idle_key(capability)) end
    if i == 1 or size < smallest then source, smallest = idle_key(capability), size end
  end
  local candidates = redis.call('ZRANGE', source, skip, skip)
  local position = skip
  while candidates[1] do
    for _, agent_id in ipairs(candidates) do
      local capable = true
      if #capabilities > 1 then
        for _, capability in ipairs(capabilities) do
          if not redis.call('ZSCORE', idle_key(capability), agent_id) then capable = false break end
        end
      end
      local agent = capable and usable(agent_id)
      if agent then return agent, false end
    end
    position = position + #candidates
    if position >= skip + SEARCH_STEPS then
      return nil, redis.call('ZCARD', source) > position
    end
    candidates = redis.call('ZRANGE', source, position, math.min(position + 15, skip + SEARCH_STEPS - 1))
  end
  return nil, false
end

-- The queued task that comes first among those an agent can serve. Returns task id and signature or nil, and whether
-- filed signatures after the first `skip + SEARCH_STEPS` of a capability were left out.
local function find_task(agent_id, joined, skip)
  local best_id, best_signature, best_score
  local function consider(signature)
    local head = redis.call('ZRANGE', queue_key(signature), 0, 0, 'WITHSCORES')
    if head[1] and (not best_score or tonumber(head[2]) < best_score) then
      best_id, best_signature, best_score = head[1], signature, tonumber(head[2])
    end
  end
  consider('')
  consider('\30' .. agent_id)
  local capabilities = split(joined)
  local has = {}
  for _, capability in ipairs(capabilities) do
    has[capability] = true
    consider(capability)
  end
  local left_out = false
  for _, capability in ipairs(capabilities) do
    local position, found = skip, false
    local filed = redis.call('ZRANGE', signatures_key(capability), position, position, 'WITHSCORES')
    while filed[1] and not found do
      for i = 1, #filed, 2 do
        if best_score and tonumber(filed[i + 1]) >= best_score then found = true break end
        local subset = true
        for _, needed in ipairs(split(filed[i])) do
          if not has[needed] then subset = false break end
        end
        if subset then
          consider(filed[i])
          found = true
          break
        end
      end
      position = position + #filed / 2
      if not found then
        if position >= skip + SEARCH_STEPS then
          left_out = left_out or redis.call('ZCARD', signatures_key(capability)) > position
          break
        end
        filed = redis.call('ZRANGE', signatures_key(capability), position,
          math.min(position + 15, skip + SEARCH_STEPS - 1), 'WITHSCORES')
      end
    end
  end
  return best_id, best_signature, left_out
end

-- Takes a task out of its queue, to assign it. nil if its record is gone: its place must not stop those behind it.
local function take(task_id, signature)
  local task = load_for_assignment(task_id)
  dequeue(task_id, signature, task.expires_at)
  return task.description and task
end

-- Gives an agent that waits for work, or is about to, its next task. Returns the frame, or nil if there is none.
local function assign_next(agent_id, capabilities, accept_timeout_ms, skip)
  for _ = 1, SEARCH_STEPS do
    local task_id, signature, left_out = find_task(agent_id, capabilities, skip)
    if not task_id then return nil, left_out end
    local task = take(task_id, signature)
    if task then return assign(task_id, task, agent_id, accept_timeout_ms), left_out end
  end
  request_match('agent', agent_id, skip)
  return nil, false
end

-- Gives the head of a queue to an idle agent, through the agent's gateway. Returns whether it did, and whether
-- candidates were left out.
local function match_signature(signature, accept_timeout_ms, skip)
  local task_id = redis.call('ZRANGE', queue_key(signature), 0, 0)[1]
  if not task_id then return false, false end
  local agent, left_out = find_agent(signature, skip)
  if not agent then return false, left_out end
  local task = take(task_id, signature)
  if not task then
    request_match('signature', signature, skip)
    return false, false
  end
  leave_idle(agent.id, agent.capabilities)
  push(agent.gateway, agent.conn, 'assign', assign(task_id, task, agent.id, accept_timeout_ms))
  return true, false
end

-- Gives an idle agent its next task, through its gateway. Returns as match_signature.
local function match_agent(agent_id, accept_timeout_ms, skip)
  if not redis.call('ZSCORE', idle_any_key(), agent_id) then return false, false end
  local agent = usable(agent_id)
  if not agent then return false, false end
  local frame, left_out = assign_next(agent_id, agent.capabilities, accept_timeout_ms, skip)
  if not frame then return false, left_out end
  leave_idle(agent_id, agent.capabilities)
  push(agent.gateway, agent.conn, 'assign', frame)
  return true, left_out
end
