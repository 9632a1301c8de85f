-- Moving tasks between their places. Needs keys clock events queue agent_state.
-- status:<s> holds a task exactly while its status is s. An assigned task is in due:accept until it is accepted and in
-- due:progress from then on, so no assigned task is without a deadline.

-- What a frame about a task is judged by, or nil. generation and the times are text.
local function load_run(task_id)
  local t = redis.call('HMGET', task_key(task_id), 'status', 'assigned_to', 'generation', 'accepted_at', 'max_runtime_ms')
  if not t[1] then return nil end
  return {status = t[1], assigned_to = t[2], generation = t[3], accepted_at = t[4], max_runtime_ms = t[5]}
end

-- What a task needs to leave its place, or nil. With a generation, also the report kept under it (see report.lua).
local function load_task(task_id, generation)
  local t = redis.call('HMGET', task_key(task_id), 'status', 'assigned_to', 'generation', 'accepted_at', 'max_runtime_ms',
    'assigned_at', 'listing', 'signature', 'score', 'complete_by', 'expires_at', 'cancel_requested_at',
    'report:' .. (generation or ''))
  if not t[1] then return nil end
  return {status = t[1], assigned_to = t[2], generation = t[3], accepted_at = t[4], max_runtime_ms = t[5],
    assigned_at = t[6], listing = t[7], signature = t[8], score = t[9], complete_by = t[10], expires_at = t[11],
    cancel_requested_at = t[12], report = t[13]}
end

-- The refusal for a frame about a task by an agent, or nil if the task is assigned to it in this generation.
-- An empty generation is not checked: clients of the old protocol do not send it with every frame.
local function refuse(task, agent_id, generation)
  if not task then return {'NOT_FOUND'} end
  if task.status ~= 'assigned' then return {'INVALID_STATE', task.status} end
  if generation ~= '' and tonumber(generation) ~= tonumber(task.generation) then
    return {'STALE_GENERATION', task.generation}
  end
  if task.assigned_to ~= agent_id then return {'NOT_OWNER', task.assigned_to} end
  return nil
end

-- Out of assigned: removes the place and the deadlines of the run.
local function leave_assigned(task_id, task)
  redis.call('ZREM', status_key('assigned'), task_id)
  redis.call('ZREM', due_key(task.accepted_at and 'progress' or 'accept'), task_id)
  if task.accepted_at and task.max_runtime_ms then redis.call('ZREM', due_key('runtime'), task_id) end
  if task.cancel_requested_at then redis.call('ZREM', due_key('cancel'), task_id) end
end

local function leave_delayed(task_id, task)
  redis.call('ZREM', status_key('delayed'), task_id)
  redis.call('ZREM', due_key('delayed'), task_id)
  if task.expires_at then redis.call('ZREM', due_key('expires'), task_id) end
end

-- Out of whatever live place the task is in.
local function leave_place(task_id, task)
  if task.status == 'assigned' then leave_assigned(task_id, task)
  elseif task.status == 'queued' then dequeue(task_id, task.signature, task.expires_at)
  else leave_delayed(task_id, task) end
end

-- Into completed or cancelled, setting further fields. The caller has taken the task out of its place.
local function finish(task_id, task, status, ...)
  redis.call('HSET', task_key(task_id), 'status', status, 'updated_at', stamp, 'finished_at', stamp, ...)
  redis.call('ZADD', status_key(status), task.listing, task_id)
  redis.call('ZADD', finished_key(), stamp, task_id)
  if task.complete_by then redis.call('ZREM', due_key('complete_by'), task_id) end
end

local function cancel(task_id, task, details)
  finish(task_id, task, 'cancelled')
  record(task_id, 'cancelled', cjson.encode(details))
  emit('task_cancelled', 'task_id', task_id, 'agent_id', task.assigned_to or '', 'generation', task.generation)
end

-- Into the dead letters. The caller has taken the task out of its place.
local function bury(task_id, task, reason)
  redis.call('HSET', task_key(task_id), 'status', 'dead_letter', 'last_error', reason, 'updated_at', stamp,
    'finished_at', stamp)
  redis.call('ZADD', status_key('dead_letter'), task.listing, task_id)
  redis.call('ZADD', dead_key(), stamp, task_id)
  if task.complete_by then redis.call('ZREM', due_key('complete_by'), task_id) end
  record(task_id, 'dead_letter', cjson.encode(reason))
  emit('task_dead_letter', 'task_id', task_id, 'agent_id', task.assigned_to or '', 'generation', task.generation,
    'reason', reason)
end

-- assigned -> queued, or delayed if delay_ms is above 0. The caller has taken the task out of its place.
local function requeue(task_id, task, delay_ms)
  local key = task_key(task_id)
  redis.call('HDEL', key, 'assigned_to', 'assigned_at', 'accepted_at', 'progress')
  if delay_ms > 0 then
    redis.call('HSET', key, 'status', 'delayed', 'generation', task.generation + 1, 'updated_at', stamp)
    redis.call('ZADD', status_key('delayed'), task.listing, task_id)
    redis.call('ZADD', due_key('delayed'), now + delay_ms, task_id)
    if task.expires_at then redis.call('ZADD', due_key('expires'), task.expires_at, task_id) end
  else
    redis.call('HSET', key, 'status', 'queued', 'generation', task.generation + 1, 'updated_at', stamp)
    enqueue(task_id, task.signature, task.score, task.listing, task.expires_at)
    request_match('signature', task.signature)
  end
end

-- A lost delivery: assigned -> queued, or dead_letter past max_deliveries, or cancelled if that was asked for.
local function reclaim(task_id, task, reason)
  leave_assigned(task_id, task)
  if task.cancel_requested_at then return cancel(task_id, task, reason) end
  local count = redis.call('HINCRBY', task_key(task_id), 'delivery_count', 1)
  local most = tonumber(redis.call('HGET', task_key(task_id), 'max_deliveries'))
  record(task_id, 'reclaimed', cjson.encode(reason))
  emit('task_reclaimed', 'task_id', task_id, 'agent_id', task.assigned_to, 'generation', task.generation,
    'reason', reason)
  if count >= most then return bury(task_id, task, 'max_deliveries: ' .. reason) end
  requeue(task_id, task, 0)
end

-- Exponential back-off with jitter: between half and all of base * 2^(attempt - 1), at most cap_ms.
local function backoff(base_ms, attempt, cap_ms)
  local full = math.min(base_ms * 2 ^ math.min(attempt - 1, 30), cap_ms)
  return math.floor(full / 2 + (full / 2) * ((now_us % 1000) / 1000))
end

-- A failed attempt: assigned -> delayed or queued while retries are left, else dead_letter, or cancelled if that was
-- asked for. Returns what became of the task, as in task_ack.
local function fail_attempt(task_id, task, reason, backoff_cap_ms)
  leave_assigned(task_id, task)
  if task.cancel_requested_at then
    cancel(task_id, task, reason)
    return 'cancelled'
  end
  local failures = redis.call('HINCRBY', task_key(task_id), 'retry_count', 1)
  local limits = redis.call('HMGET', task_key(task_id), 'max_retries', 'retry_backoff_ms')
  if failures >= tonumber(limits[1]) then
    bury(task_id, task, reason)
    return 'dead_letter'
  end
  redis.call('HSET', task_key(task_id), 'last_error', reason)
  record(task_id, 'retry', cjson.encode(reason))
  emit('task_retried', 'task_id', task_id, 'agent_id', task.assigned_to, 'generation', task.generation,
    'reason', reason)
  requeue(task_id, task, backoff(tonumber(limits[2]), failures, backoff_cap_ms))
  return 'retried'
end

-- The tasks whose deadline of a kind has come, each with its id, and the reply that counts them. A deadline without a
-- task is dropped: it would stop the sweep for ever.
local function due_tasks(kind, limit)
  local ids = redis.call('ZRANGEBYSCORE', due_key(kind), '-inf', stamp, 'LIMIT', 0, limit)
  local tasks = {}
  for _, task_id in ipairs(ids) do
    local task = load_task(task_id)
    if task then
      task.id = task_id
      tasks[#tasks + 1] = task
    else
      redis.call('ZREM', due_key(kind), task_id)
    end
  end
  return tasks, {'OK', #ids, #ids == tonumber(limit) and 1 or 0}
end
