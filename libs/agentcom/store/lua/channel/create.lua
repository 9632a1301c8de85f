#!lua
-- channel/create: a new channel. Of a private one the creator is the first member.
-- ARGV: name description created_by private nonce max_channels members...
-- RETURNS: OK | CHANNEL_EXISTS | TOO_MANY
-- INCLUDE: keys clock
-- The same nonce once more is the same call sent twice.

local key = channel_key(name)
local made_by = redis.call('HGET', key, 'nonce')
if made_by == nonce then return {'OK'} end
if made_by then return {'CHANNEL_EXISTS'} end
if redis.call('ZCARD', channels_key()) >= tonumber(max_channels) then return {'TOO_MANY'} end
redis.call('HSET', key, 'description', description, 'created_at', stamp, 'created_by', created_by, 'private', private,
  'seq', 0, 'nonce', nonce)
redis.call('ZADD', channels_key(), 0, name)
if private == '1' then redis.call('SADD', members_key(name), created_by, unpack(members)) end
return {'OK'}
