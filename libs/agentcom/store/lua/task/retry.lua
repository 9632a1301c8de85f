#!lua
-- task/retry: dead_letter -> queued, by hand: counts start anew, and a deadline already missed is dropped. The task
-- goes back to its original position.
-- ARGV: call_id task_id
-- RETURNS: OK {priority} | NOT_FOUND | INVALID_STATE {status}
-- EVENTS: task_retried
-- INCLUDE: keys clock events sets queue agent_state task_state once

local answer = kept_answer(task_key(task_id), call_id)
if answer then return {'OK', answer} end
local task = load_task(task_id)
if not task then return {'NOT_FOUND'} end
if task.status ~= 'dead_letter' then return {'INVALID_STATE', task.status} end
local key = task_key(task_id)
redis.call('ZREM', status_key('dead_letter'), task_id)
redis.call('ZREM', dead_key(), task_id)
redis.call('HDEL', key, 'last_error', 'finished_at', 'cancel_requested_at', 'cancel_reason')
redis.call('HSET', key, 'retry_count', 0, 'delivery_count', 0)
if task.expires_at and tonumber(task.expires_at) <= now then
  redis.call('HDEL', key, 'expires_at')
  task.expires_at = nil
end
if task.complete_by and tonumber(task.complete_by) <= now then
  redis.call('HDEL', key, 'complete_by')
elseif task.complete_by then
  redis.call('ZADD', due_key('complete_by'), task.complete_by, task_id)
end
record(task_id, 'queued', '"retried from dead-letter"')
emit('task_retried', 'task_id', task_id, 'agent_id', '', 'generation', task.generation, 'reason', 'by hand')
requeue(task_id, task, 0)
local priority = redis.call('HGET', key, 'priority')
keep_answer(key, call_id, priority)
return {'OK', priority}
