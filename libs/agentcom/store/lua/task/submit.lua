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
    redis.call('HSET', key, 'id', item.id, 'body', item.body_digest, 'priority', item.priority, 'created_at', now)
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

local function store(item, index)
  local created_us = now_us + index
  local queued_us = created_us
  local delayed = item.run_at ~= '' and tonumber(item.run_at) > now
  if delayed then queued_us = tonumber(item.run_at) * 1000 + index end
  local score = queued_us + tonumber(item.priority) * tonumber(priority_window_ms) * 1000
  local listing = tonumber(item.priority) * 2e15 + created_us - LISTING_START_US
  local key = task_key(item.id)
  redis.call('HSET', key, 'v', 1, 'id', item.id, 'description', item.description, 'metadata', item.metadata,
    'priority', item.priority, 'status', delayed and 'delayed' or 'queued', 'generation', 0, 'retry_count', 0,
    'max_retries', item.max_retries, 'delivery_count', 0, 'max_deliveries', item.max_deliveries,
    'retry_backoff_ms', item.retry_backoff_ms, 'signature', item.signature, 'capabilities', item.capabilities,
    'submitted_by', item.submitted_by, 'created_at', now, 'updated_at', now, 'score', score, 'listing', listing)
  for _, field in ipairs({'target_agent', 'max_runtime_ms', 'complete_by', 'run_at', 'expires_at'}) do
    if item[field] ~= '' then redis.call('HSET', key, field, item[field]) end
  end
  record(item.id, 'queued', now, '"submitted"')
  if item.complete_by ~= '' then redis.call('ZADD', due_key('complete_by'), item.complete_by, item.id) end
  emit('task_submitted', 'task_id', item.id, 'priority', item.priority, 'submitted_by', item.submitted_by)
  return delayed, score, listing
end

-- Looks for an idle agent. Not needed behind other tasks of the same queue: no idle agent could serve those either.
local function assign_at_once(item, listing)
  if redis.call('EXISTS', queue_key(item.signature)) == 1 then return false end
  local agent, left_out = find_agent(item.signature, 0)
  if not agent then
    if left_out then request_match('signature', item.signature, SEARCH_STEPS) end
    return false
  end
  leave_idle(agent.id, agent.capabilities)
  local frame = assign(item.id, {description = item.description, metadata = item.metadata, priority = item.priority,
    complete_by = item.complete_by ~= '' and item.complete_by or nil, listing = listing, created_at = now},
    agent.id, accept_timeout_ms)
  push(agent.gateway, agent.conn, 'assign', frame)
  return true
end

for index, item in ipairs(items) do
  if not reply_stored(item.id) and not answered_by_key(item) then
    local delayed, score, listing = store(item, index)
    local expires_at = item.expires_at ~= '' and item.expires_at or nil
    if delayed then
      redis.call('ZADD', status_key('delayed'), listing, item.id)
      redis.call('ZADD', due_key('delayed'), item.run_at, item.id)
      if expires_at then redis.call('ZADD', due_key('expires'), expires_at, item.id) end
    elseif not assign_at_once(item, listing) then
      enqueue(item.id, item.signature, score, listing, expires_at)
    end
    redis.call('HINCRBY', counters_key(), 'submitted', 1)
    reply('created', item.id, delayed and 'delayed' or 'queued', item.priority, now)
  end
end

return replies
