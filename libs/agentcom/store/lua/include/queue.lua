-- The queues. Needs keys clock sets.
-- A task is in the queue of its signature exactly while its status is queued. A queue of several capabilities is
-- filed, with the score of its head, under the one of them that the fewest connected agents have, so that agents
-- without it never look at it.

local function rarest(signature)
  local capabilities = split(signature)
  local counts = redis.call('HMGET', capabilities_key(), unpack(capabilities))
  local best, best_count
  for i, capability in ipairs(capabilities) do
    local count = tonumber(counts[i] or 0)
    if not best or count < best_count then best, best_count = capability, count end
  end
  return best
end

-- Call after a queue's head may have changed.
local function refile(signature)
  if not is_filed_kind(signature) then return end
  local head = redis.call('ZRANGE', queue_key(signature), 0, 0, 'WITHSCORES')
  local capability = redis.call('HGET', filed_key(), signature)
  if not head[1] then
    if capability then
      redis.call('ZREM', signatures_key(capability), signature)
      redis.call('HDEL', filed_key(), signature)
    end
    return
  end
  if not capability then
    capability = rarest(signature)
    redis.call('HSET', filed_key(), signature, capability)
  end
  redis.call('ZADD', signatures_key(capability), head[2], signature)
end

-- Puts a task into its queue; the caller has set its status field.
local function enqueue(task_id, signature, score, listing, expires_at)
  redis.call('ZADD', queue_key(signature), score, task_id)
  redis.call('ZADD', status_key('queued'), listing, task_id)
  if expires_at then redis.call('ZADD', due_key('expires'), expires_at, task_id) end
  refile(signature)
end

local function dequeue(task_id, signature, expires_at)
  redis.call('ZREM', queue_key(signature), task_id)
  redis.call('ZREM', status_key('queued'), task_id)
  if expires_at then redis.call('ZREM', due_key('expires'), task_id) end
  refile(signature)
end
