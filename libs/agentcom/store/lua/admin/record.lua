#!lua flags=allow-oom
-- admin/record: keeps what an operator or admin did.
-- ARGV: id actor role action target body remote request_id
-- RETURNS: OK {at}
-- INCLUDE: keys clock
-- target and body are JSON text. The same id among the newest entries is the same call sent twice.

for _, entry in ipairs(redis.call('XREVRANGE', admin_log_key(), '+', '-', 'COUNT', 50)) do
  for index = 1, #entry[2], 2 do
    if entry[2][index] == 'id' and entry[2][index + 1] == id then return {'OK', now} end
  end
end
redis.call('XADD', admin_log_key(), 'MAXLEN', '~', 10000, '*', 'id', id, 'at', stamp, 'actor', actor, 'role', role,
  'action', action, 'target', target, 'body', body, 'remote', remote, 'request_id', request_id)
return {'OK', now}
