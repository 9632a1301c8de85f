#!lua flags=allow-oom
-- agent/expire: disconnected agents whose grace has passed are forgotten and their tasks go back to the queue.
-- ARGV: limit
-- RETURNS: OK {served more}
-- EVENTS: task_reclaimed task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state

local due = redis.call('ZRANGEBYSCORE', due_key('grace'), '-inf', stamp, 'LIMIT', 0, limit)
for _, agent_id in ipairs(due) do
  local task_id = redis.call('HGET', agent_key(agent_id), 'task')
  local task = task_id and load_task(task_id)
  if task then reclaim(task_id, task, 'agent_disconnect') end
  forget_agent(agent_id)
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
