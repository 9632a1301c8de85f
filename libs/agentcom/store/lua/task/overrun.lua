#!lua flags=allow-oom
-- task/overrun: an attempt that ran past max_runtime_ms counts as failed: assigned -> delayed, queued or dead_letter.
-- Its agent is asked to stop.
-- ARGV: limit backoff_cap_ms
-- RETURNS: OK {served more}
-- EVENTS: task_retried task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state

local due = redis.call('ZRANGEBYSCORE', due_key('runtime'), '-inf', now, 'LIMIT', 0, limit)
for _, task_id in ipairs(due) do
  local task = load_task(task_id)
  push_cancel(task.assigned_to, task_id, task.generation, 'max_runtime')
  fail_attempt(task_id, task, 'max_runtime: ran longer than ' .. task.max_runtime_ms .. ' ms', tonumber(backoff_cap_ms))
  release_agent(task.assigned_to, task_id, false)
end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
