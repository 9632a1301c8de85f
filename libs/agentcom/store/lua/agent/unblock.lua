#!lua flags=allow-oom
-- agent/unblock: blocked -> idle for agents whose rest after a rejection is over.
-- ARGV: limit
-- RETURNS: OK {served more}
-- INCLUDE: keys clock events sets agent_state rest

local due = redis.call('ZRANGEBYSCORE', due_key('unblock'), '-inf', stamp, 'LIMIT', 0, limit)
for _, agent_id in ipairs(due) do unblock(agent_id) end
return {'OK', #due, #due == tonumber(limit) and 1 or 0}
