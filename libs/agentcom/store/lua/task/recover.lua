#!lua flags=allow-oom
-- task/recover: a client that came back asks whether it still holds a task. If it does, the assignment counts as
-- accepted and goes on in its current generation; ownership is the fence, so an older generation is told the new one.
-- ARGV: task_id agent_id progress_timeout_ms
-- RETURNS: OK {continue generation | reassign}
-- EVENTS: task_accepted
-- INCLUDE: keys clock events sets queue agent_state task_state accept rest

local task = load_task(task_id)
if refuse(task, agent_id, '') or task.cancel_requested_at then
  free_after_refusal(agent_id, task_id, task)
  return {'OK', 'reassign', ''}
end
accept(task_id, task, agent_id, progress_timeout_ms)
return {'OK', 'continue', task.generation}
