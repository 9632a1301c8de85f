#!lua flags=no-writes
-- message/get: one message with its delivery state.
-- ARGV: id agent_id privileged
-- RETURNS: OK {id from to channel type payload reply_to timestamp seq state state_at reason} | NOT_FOUND
-- INCLUDE: keys visible

local message = load_message(id)
if not sees_message(message, agent_id, privileged) then return {'NOT_FOUND'} end
local reply = {'OK'}
append_message(reply, id, message)
return reply
