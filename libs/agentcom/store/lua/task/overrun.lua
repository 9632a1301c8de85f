#!lua flags=allow-oom
-- task/overrun: an attempt that ran past max_runtime_ms counts as failed: assigned -> delayed, queued or dead_letter.
-- Its agent is asked to stop.
-- ARGV: limit backoff_cap_ms return_grace_ms
-- RETURNS: OK {served more}
-- EVENTS: task_retried task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state absence

local tasks, reply = due_tasks('runtime', limit)
local since = gateways_since()
for _, task in ipairs(tasks) do
  if put_off('runtime', task.id, task, since, return_grace_ms) then
    reply[2] = reply[2] - 1
  else
    push_cancel(task.assigned_to, task.id, task.generation, 'max_runtime')
    fail_attempt(task.id, task, 'max_runtime: ran longer than ' .. task.max_runtime_ms .. ' ms', tonumber(backoff_cap_ms))
    release_agent(task.assigned_to, task.id, false)
  end
end
return reply
