#!lua flags=allow-oom
-- task/overrun: an attempt that ran past max_runtime_ms counts as failed: assigned -> delayed, queued or dead_letter.
-- Its agent is asked to stop.
-- ARGV: limit backoff_cap_ms
-- RETURNS: OK {served more}
-- EVENTS: task_retried task_dead_letter task_cancelled
-- INCLUDE: keys clock events sets queue agent_state task_state

local tasks, reply = due_tasks('runtime', limit)
for _, task in ipairs(tasks) do
  push_cancel(task.assigned_to, task.id, task.generation, 'max_runtime')
  fail_attempt(task.id, task, 'max_runtime: ran longer than ' .. task.max_runtime_ms .. ' ms', tonumber(backoff_cap_ms))
  release_agent(task.assigned_to, task.id, false)
end
return reply
