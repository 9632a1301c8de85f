#!lua flags=allow-oom
-- rate/take: takes one token of an identity's bucket, for requests whose own work is no script.
-- ARGV: identity lane tier capacity rate
-- RETURNS: OK {allow|warn|deny|exempt left_or_wait_ms capacity}
-- INCLUDE: keys clock stats rate

local verdict, left, limit = take_token(identity, lane, tier, capacity, rate)
return {'OK', verdict, left, limit}
