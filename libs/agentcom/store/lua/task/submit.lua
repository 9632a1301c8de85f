#!lua
-- task/submit: nothing -> queued or delayed, and -> assigned at once if a capable agent waits.
-- ARGV: accept_timeout_ms priority_window_ms idempotency_ttl_ms
-- ITEMS: id description metadata priority signature capabilities target_agent max_retries max_deliveries retry_backoff_ms max_runtime_ms complete_by run_at expires_at submitted_by idempotency_digest body_digest
-- RETURNS: OK {created|repeated|conflict id status priority created_at per item}
-- EVENTS: task_submitted task_assigned
-- INCLUDE: keys clock events sets queue agent_state match
-- A repeated id is the same call sent twice (the first reply was lost) and gets the stored task; so does a repeated
-- idempotency key with the same body. Order within a lane is the order of the items.

-- List scores count microseconds from September 2020, so that a priority's 2e15 of them last until 2084.
local LISTING_START_US = 1.6e15

local replies = {'OK'}

local function reply(outcome, id, status, priority, created_at)
  local n = #replies
  replies[n + 1], replies[n + 2], replies[n + 3], replies[n + 4], replies[n + 5] =
    outcome, id, status, priority, created_at
end

local function reply_stored(id)
  local stored = redis.call('HMGET', task_key(id), 'status', 'priority', 'created_at')
  if not stored[1] then return false end
  reply('repeated', id, stored[1], stored[2], stored[3])
  return true
end

-- Whether the item's idempotency key was used before; if so the answer has been given.
local function answered_by_key(item)
  if item.idempotency_digest == '' then return false end
  local key = idempotency_key(item.submitted_by, item.idempotency_digest)
  local used = redis.call('HMGET', key, 'id', 'body', 'priority', 'created_at')
  if not used[1] then
    redis.call('HSET', key, 'id', item.id, 'body', item.body_digest, 'priority', item.priority, 'created_at', stamp)
    redis.call('PEXPIRE', key, idempotency_ttl_ms)
    return false
  end
  if used[2] ~= item.body_digest then
    reply('conflict', used[1], '', '', '')
  elseif not reply_stored(used[1]) then
    reply('repeated', used[1], 'pruned', used[3], used[4])
  end
  return true
end

-- An idle agent for the item, or nil. Behind other tasks of the same queue there is nothing to look for: no idle agent
-- could serve those either.
local function agent_for(item)
  if redis.call('EXISTS', queue_key(item.signature)) == 1 then return nil end
  local agent, left_out = find_agent(item.signature, 0)
  if left_out then request_match('signature', item.signature, SEARCH_STEPS) end
  return agent
end

-- The task's hash. What every transition reads comes first: small hashes are looked through from the front.
local function write_task(item, status, score, listing, agent)
  local fields = {'status', status, 'generation', agent and '1' or '0', 'listing', listing, 'signature', item.signature,
    'score', score, 'created_at', stamp, 'updated_at', stamp, 'retry_count', '0', 'max_retries', item.max_retries,
    'delivery_count', '0', 'max_deliveries', item.max_deliveries, 'retry_backoff_ms', item.retry_backoff_ms,
    'priority', item.priority, 'v', '1', 'id', item.id, 'capabilities', item.capabilities,
    'submitted_by', item.submitted_by, 'description', item.description, 'metadata', item.metadata}
  local n = #fields
  local function add(field, value)
    fields[n + 1], fields[n + 2] = field, value
    n = n + 2
  end
  for _, field in ipairs({'target_agent', 'max_runtime_ms', 'complete_by', 'run_at', 'expires_at'}) do
    if item[field] ~= '' then add(field, item[field]) end
  end
  if agent then
    add('assigned_to', agent.id)
    add('assigned_at', stamp)
  end
  redis.call('HSET', task_key(item.id), unpack(fields))
end

-- Puts a new task into its place. Returns the status to answer with: a task assigned at once was queued for no time.
local function store(item, index)
  local created_us = now_us + index
  local queued_us = created_us
  local delayed = item.run_at ~= '' and tonumber(item.run_at) > now
  if delayed then queued_us = tonumber(item.run_at) * 1000 + index end
  local score = queued_us + tonumber(item.priority) * tonumber(priority_window_ms) * 1000
  local listing = tonumber(item.priority) * 2e15 + created_us - LISTING_START_US
  local agent = not delayed and agent_for(item) or nil
  write_task(item, delayed and 'delayed' or agent and 'assigned' or 'queued', score, listing, agent)
  local history = {history_entry('queued', '"submitted"')}
  if agent then history[2] = history_entry('assigned', assigned_details(agent.id, '1')) end
  redis.call('LPUSH', history_key(item.id), unpack(history))
  if item.complete_by ~= '' then redis.call('ZADD', due_key('complete_by'), item.complete_by, item.id) end
  emit('task_submitted', 'task_id', item.id, 'priority', item.priority, 'submitted_by', item.submitted_by)
  local expires_at = item.expires_at ~= '' and item.expires_at or nil
  if delayed then
    redis.call('ZADD', status_key('delayed'), listing, item.id)
    redis.call('ZADD', due_key('delayed'), item.run_at, item.id)
    if expires_at then redis.call('ZADD', due_key('expires'), expires_at, item.id) end
    return 'delayed'
  end
  if agent then
    leave_idle(agent.id, agent.capabilities)
    push(agent.gateway, agent.conn, 'assign', hand_over(item.id, {description = item.description,
      metadata = item.metadata, priority = item.priority, listing = listing, created_at = now,
      complete_by = item.complete_by ~= '' and item.complete_by or nil}, agent.id, '1', accept_timeout_ms))
  else
    enqueue(item.id, item.signature, score, listing, expires_at)
  end
  return 'queued'
end

for index, item in ipairs(items) do
  if not reply_stored(item.id) and not answered_by_key(item) then
    local status = store(item, index)
    redis.call('HINCRBY', counters_key(), 'submitted', '1')
    reply('created', item.id, status, item.priority, now)
  end
end

return replies
