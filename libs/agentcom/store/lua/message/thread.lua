#!lua flags=no-writes
-- message/thread: the thread of a message: its root, and what an agent may see of the tree below it, or of the direct
-- answers to the message alone.
-- ARGV: id agent_id privileged scope limit
-- RETURNS: OK {root truncated id from to channel type payload reply_to timestamp seq state state_at reason per message}
-- INCLUDE: keys visible
-- scope is tree, replies or root. A message that the agent may not see is as good as unknown: a root without a tree.
-- Chains and trees are followed for at most limit messages; of a circle of answers the oldest message is the root.

local function root_of()
  local path, place, at = {id}, {[id] = 1}, id
  while #path < tonumber(limit) do
    local parent = redis.call('HGET', message_key(at), 'reply_to')
    if not parent then return at end
    if place[parent] then
      local oldest, top = nil, parent
      for i = place[parent], #path do
        local seq = tonumber(redis.call('HGET', message_key(path[i]), 'seq'))
        if not oldest or seq < oldest then oldest, top = seq, path[i] end
      end
      return top
    end
    path[#path + 1] = parent
    place[parent] = #path
    at = parent
  end
  return at
end

local start = load_message(id)
if start[1] and not sees_message(start, agent_id, privileged) then return {'OK', id, 0} end
local top = scope == 'replies' and id or root_of()
local reply = {'OK', top, 0}
if scope == 'root' then return reply end

local waiting, known, looked_at = {top}, {[top] = true}, 0
while #waiting > looked_at do
  looked_at = looked_at + 1
  local current = waiting[looked_at]
  if scope == 'tree' or current ~= top then
    local message = load_message(current)
    if sees_message(message, agent_id, privileged) then append_message(reply, current, message) end
  end
  if scope == 'tree' or current == top then
    local room = limit - #waiting
    local children = redis.call('ZRANGEBYSCORE', replies_key(current), '-inf', '+inf', 'LIMIT', 0, room + 1)
    for _, child in ipairs(children) do
      if not known[child] then
        if #waiting >= tonumber(limit) then
          reply[3] = 1
          break
        end
        known[child] = true
        waiting[#waiting + 1] = child
      end
    end
  end
end
return reply
