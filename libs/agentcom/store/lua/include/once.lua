-- Calls that nothing else tells apart from a second one of the same kind. The caller gives each an id; the answer to the
-- latest is kept in a hash, so that a call sent again, because its answer was lost, is answered and not done again.

local function kept_answer(key, call_id)
  local kept = redis.call('HGET', key, 'answered') or ''
  if string.sub(kept, 1, #call_id + 1) == call_id .. ':' then return string.sub(kept, #call_id + 2) end
  return nil
end

local function keep_answer(key, call_id, answer)
  redis.call('HSET', key, 'answered', call_id .. ':' .. answer)
end
