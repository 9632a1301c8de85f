-- Token buckets. Needs keys clock stats.
-- Whole numbers throughout: a bucket holds millionths of a token (tokens), and what a refill leaves below that is kept
-- as 60,000ths of those (rest), so that no polling, however fast, loses any of it. capacity is in millionths of a token,
-- rate in millionths a minute; the bounds in agentcom/domain/limits.py keep every product below 2^53.

-- Capacity and rate of an identity: its own if an admin gave it some.
local function limits_of(identity, tier, capacity, rate)
  local rules = redis.call('HGET', rate_rules_key(), identity)
  local own = rules and cjson.decode(rules)[tier]
  if own then return own[1], own[2] end
  return tonumber(capacity), tonumber(rate)
end

-- What is in a bucket now: tokens and rest. An unknown bucket is full.
local function refilled(key, capacity, rate)
  local bucket = redis.call('HMGET', key, 'tokens', 'rest', 'at')
  if not bucket[1] then return capacity, 0 end
  local tokens = math.min(tonumber(bucket[1]), capacity)
  local until_full = math.ceil((capacity - tokens) * 60000 / rate)
  local elapsed = math.min(math.max(now - tonumber(bucket[3]), 0), until_full)
  local gained = tonumber(bucket[2]) + elapsed * rate
  local rest = math.fmod(gained, 60000)
  tokens = tokens + (gained - rest) / 60000
  if tokens >= capacity then return capacity, 0 end
  return tokens, rest
end

-- A denial: counted for a minute from the first one, and by the hour.
local function record_denial(identity)
  local key = rate_violations_key(identity)
  if redis.call('HINCRBY', key, 'count', 1) == 1 then
    redis.call('HSET', key, 'window_start', stamp)
    redis.call('PEXPIRE', key, 60000)
  end
  redis.call('ZADD', rate_limited_key(), stamp, identity)
  redis.call('ZREMRANGEBYSCORE', rate_limited_key(), '-inf', now - 3600000)
  redis.call('ZREMRANGEBYRANK', rate_limited_key(), 0, -(10000 + 1))
  count_in_hour('denied', 1)
end

-- Takes one token. Returns exempt; allow or warn, the whole tokens left, the capacity; or deny, the milliseconds until
-- there is one (whole seconds), the capacity. A warning means that less than a fifth is left.
local function take_token(identity, lane, tier, capacity, rate)
  if redis.call('ZSCORE', rate_exempt_key(), identity) then return 'exempt', 0, 0 end
  capacity, rate = limits_of(identity, tier, capacity, rate)
  local key = bucket_key(lane, tier, identity)
  local tokens, rest = refilled(key, capacity, rate)
  local verdict, left = 'deny', 0
  if tokens >= 1000000 then
    tokens = tokens - 1000000
    left = math.floor(tokens / 1000000)
    verdict = left < math.floor(capacity / 5000000) and 'warn' or 'allow'
  else
    left = math.ceil(((1000000 - tokens) * 60000 - rest) / rate / 1000) * 1000
    record_denial(identity)
  end
  redis.call('HSET', key, 'tokens', tokens, 'rest', rest, 'at', stamp)
  redis.call('PEXPIRE', key, math.max(1, math.ceil((capacity - tokens) * 60000 / rate)))
  return verdict, left, math.floor(capacity / 1000000)
end
