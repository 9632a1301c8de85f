-- Capability sets, joined by the unit separator as in agentcom/domain/signature.py.

local function split(joined)
  local parts = {}
  for part in string.gmatch(joined, '[^\31]+') do parts[#parts + 1] = part end
  return parts
end

-- The agent a signature is pinned to, or nil.
local function pinned_agent(signature)
  if string.byte(signature) == 30 then return string.sub(signature, 2) end
  return nil
end

-- Only signatures of two and more capabilities are filed; an agent knows the names of its other queues.
local function is_filed_kind(signature)
  return string.find(signature, '\31', 1, true) ~= nil and string.byte(signature) ~= 30
end
