#!lua flags=allow-oom
-- gateway/renew: takes or prolongs a gateway's lease. One that has lapsed can't be prolonged: its agents may be gone,
-- so the gateway must close its sockets and start again under a new id.
-- ARGV: gateway lease_ms first
-- RETURNS: OK {expires_at} | GATEWAY_LEASE_LOST
-- INCLUDE: keys clock absence

local lease = redis.call('ZSCORE', gateways_key(), gateway)
if first ~= '1' and (not lease or tonumber(lease) <= now) then return {'GATEWAY_LEASE_LOST'} end
if not some_gateway_alive() then redis.call('SET', gateways_since_key(), stamp) end
redis.call('ZADD', gateways_key(), now + lease_ms, gateway)
return {'OK', now + lease_ms}
