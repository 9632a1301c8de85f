-- The holder of a task says that it has it. Needs keys clock events task_state.
local function accept(task_id, task, agent_id, progress_timeout_ms)
  redis.call('ZADD', due_key('progress'), now + progress_timeout_ms, task_id)
  if task.accepted_at then
    redis.call('HSET', task_key(task_id), 'updated_at', stamp)
    return
  end
  redis.call('HSET', task_key(task_id), 'updated_at', stamp, 'accepted_at', stamp)
  redis.call('ZREM', due_key('accept'), task_id)
  if task.max_runtime_ms then
    redis.call('ZADD', due_key('runtime'), now + task.max_runtime_ms, task_id)
  end
  local agent = redis.call('HMGET', agent_key(agent_id), 'task', 'state', 'unresponsive', 'rejections')
  if agent[1] == task_id then
    if agent[3] or agent[4] then redis.call('HDEL', agent_key(agent_id), 'unresponsive', 'rejections') end
    if agent[2] ~= 'offline' then
      redis.call('HSET', agent_key(agent_id), 'state', 'working', 'last_state_change', stamp)
    end
  end
  emit('task_accepted', 'task_id', task_id, 'agent_id', agent_id, 'generation', task.generation)
end
