-- Who may see what. Needs keys.
-- A private channel does not exist for agents that are not its members. privileged is '1' for admins.

-- Whether a channel exists for an agent; '' is nobody in particular.
local function sees_channel(name, agent_id, privileged)
  local channel = redis.call('HMGET', channel_key(name), 'created_at', 'private')
  if not channel[1] then return false end
  if channel[2] ~= '1' or privileged == '1' then return true end
  return redis.call('SISMEMBER', members_key(name), agent_id) == 1
end

-- What is read of a message, in the order in which it is answered; '' for what it does not have.
local function load_message(id)
  return redis.call('HMGET', message_key(id), 'from', 'to', 'channel', 'type', 'payload', 'reply_to', 'timestamp',
    'seq', 'state', 'state_at', 'reason')
end

-- An agent sees what it sent, what it was sent, broadcasts, and posts on channels that exist for it.
local function sees_message(message, agent_id, privileged)
  if not message[1] then return false end
  if privileged == '1' or message[1] == agent_id or message[2] == agent_id or message[2] == 'broadcast' then
    return true
  end
  return message[3] and sees_channel(message[3], agent_id, privileged)
end

local function append_message(reply, id, message)
  local n = #reply
  reply[n + 1] = id
  for i = 1, 11 do reply[n + 1 + i] = message[i] or '' end
end
