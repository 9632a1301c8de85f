#!lua flags=allow-oom
-- match: serves match requests: each names a signature (its queue may have an idle agent) or an agent (it may have a
-- task). A request ends here: it is acknowledged and removed in the same step. What needs more steps than one call
-- takes becomes a new request that goes on where this one stopped.
-- ARGV: group accept_timeout_ms
-- ITEMS: entry kind name skip
-- RETURNS: OK {matched}
-- EVENTS: task_assigned
-- INCLUDE: keys clock events sets queue agent_state match

local MATCHES_PER_REQUEST = 32
local matched = 0
for _, item in ipairs(items) do
  local skip = tonumber(item.skip)
  if item.kind == 'agent' then
    local found, left_out = match_agent(item.name, accept_timeout_ms, skip)
    if found then matched = matched + 1
    elseif left_out then request_match('agent', item.name, skip + SEARCH_STEPS) end
  else
    local served = 0
    local found, left_out = true, false
    while found and served < MATCHES_PER_REQUEST do
      found, left_out = match_signature(item.name, accept_timeout_ms, skip)
      if found then served = served + 1 end
    end
    matched = matched + served
    if found then request_match('signature', item.name, skip)
    elseif left_out then request_match('signature', item.name, skip + SEARCH_STEPS) end
  end
  if item.entry ~= '' then
    redis.call('XACK', match_key(), group, item.entry)
    redis.call('XDEL', match_key(), item.entry)
  end
end
return {'OK', matched}
