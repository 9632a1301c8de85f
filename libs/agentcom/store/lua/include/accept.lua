-- The holder of a task says that it has it. Needs keys clock events task_state.
local function accept(task_id, task, agent_id, progress_timeout_ms)
  redis.call('ZADD', due_key('progress'), now + progress_timeout_ms, task_id)
  redis.call('HSET', task_key(task_id), 'updated_at', now)
  if task.accepted_at then return end
  redis.call('ZREM', due_key('accept'), task_id)
  redis.call('HSET', task_key(task_id), 'accepted_at', now)
  if task.max_runtime_ms then
    redis.call('ZADD', due_key('runtime'), now + task.max_runtime_ms, task_id)
  end
  if redis.call('HGET', agent_key(agent_id), 'task') == task_id then
    redis.call('HDEL', agent_key(agent_id), 'unresponsive', 'rejections')
    if redis.call('HGET', agent_key(agent_id), 'state') ~= 'offline' then
      redis.call('HSET', agent_key(agent_id), 'state', 'working', 'last_state_change', now)
    end
  end
  emit('task_accepted', 'task_id', task_id, 'agent_id', agent_id, 'generation', task.generation)
end
