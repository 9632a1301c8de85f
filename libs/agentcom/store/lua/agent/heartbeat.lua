#!lua flags=allow-oom
-- agent/heartbeat: an agent's ping. For a client that sends no progress of its own, being alive is its progress.
-- ARGV: agent_id conn progress_timeout_ms
-- RETURNS: OK {timestamp} | CONNECTION_REPLACED
-- INCLUDE: keys clock

local agent = redis.call('HMGET', agent_key(agent_id), 'conn', 'state', 'task', 'features')
if agent[1] ~= conn then return {'CONNECTION_REPLACED'} end
redis.call('ZADD', seen_key(), stamp, agent_id)
if agent[2] == 'working' and not string.find(' ' .. (agent[4] or '') .. ' ', ' progress ', 1, true) then
  redis.call('ZADD', due_key('progress'), 'XX', now + progress_timeout_ms, agent[3])
end
return {'OK', now}
