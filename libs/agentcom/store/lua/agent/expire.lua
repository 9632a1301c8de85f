#!lua flags=allow-oom
-- agent/expire: disconnected agents whose grace has passed are forgotten and their tasks go back to the queue.
-- ARGV: limit return_grace_ms
-- RETURNS: OK {served more}
-- EVENTS: task_reclaimed task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state absence

local due = redis.call('ZRANGEBYSCORE', due_key('grace'), '-inf', stamp, 'LIMIT', 0, limit)
local since, served = gateways_since(), 0
for _, agent_id in ipairs(due) do
  local task_id = redis.call('HGET', agent_key(agent_id), 'task')
  local task = task_id and load_task(task_id)
  if not task or not put_off('grace', agent_id, task, since, return_grace_ms) then
    if task then reclaim(task_id, task, 'agent_disconnect') end
    forget_agent(agent_id)
    served = served + 1
  end
end
return {'OK', served, #due == tonumber(limit) and 1 or 0}
