-- Announcing what happened. Needs keys clock.

-- Appends to the events stream: an event name and field, value pairs. The stream keeps about the newest 100,000.
local function emit(event, ...)
  redis.call('XADD', events_key(), 'MAXLEN', '~', '100000', '*', 'event', event, ...)
end

-- Asks the scheduler to match: kind is 'signature' or 'agent', skip the number of candidates an earlier search has
-- been through. The entry stays until match.lua has served it.
local function request_match(kind, name, skip)
  redis.call('XADD', match_key(), '*', 'kind', kind, 'name', name, 'skip', skip or 0)
end

-- An entry of a task's history. details is JSON text.
local function history_entry(event, details)
  return '{"event":"' .. event .. '","timestamp":' .. stamp .. ',"details":' .. details .. '}'
end

-- Appends to a task's history, newest first, at most 50 entries.
local function record(task_id, event, details)
  if redis.call('LPUSH', history_key(task_id), history_entry(event, details)) > 50 then
    redis.call('LTRIM', history_key(task_id), 0, 49)
  end
end

-- Hands a gateway one frame for one connection. kind: assign, cancel or frame; the gateway writes it as it is.
local function push(gateway, conn, kind, frame)
  redis.call('XADD', outbox_key(gateway), '*', 'conn', conn, 'kind', kind, 'frame', frame)
end

-- Tells a gateway to close one connection with a close code and a reason.
local function push_close(gateway, conn, code, reason)
  redis.call('XADD', outbox_key(gateway), '*', 'conn', conn, 'kind', 'close', 'code', code, 'frame', reason)
end

-- The five fields of an agent that presence events carry, as JSON text.
local function describe_agent(agent_id)
  local agent = redis.call('HMGET', agent_key(agent_id), 'name', 'status', 'capabilities_sent', 'connected_at')
  return '{"agent_id":' .. cjson.encode(agent_id) .. ',"name":' .. (agent[1] and cjson.encode(agent[1]) or 'null') ..
    ',"status":' .. (agent[2] and cjson.encode(agent[2]) or 'null') .. ',"capabilities":' .. (agent[3] or '[]') ..
    ',"connected_at":' .. (agent[4] or 'null') .. '}'
end

-- Tells every gateway about an agent: event is agent_joined, status_changed or agent_left; agent is JSON text or nil.
local function publish_presence(event, agent_id, agent)
  local message = '{"type":"' .. event .. '","agent_id":' .. cjson.encode(agent_id)
  if agent then message = message .. ',"agent":' .. agent end
  redis.call('PUBLISH', presence_channel(), message .. '}')
end
