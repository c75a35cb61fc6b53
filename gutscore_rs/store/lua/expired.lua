-- Members whose lease is over, oldest first, with their packed records; nothing is removed.
-- KEYS  1 live zset  2 workers hash
-- ARGV  1 limit
-- Returns {member, packed info or '', ...}
local at = now()
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(at), 'LIMIT', 0, ARGV[1])
local reply = {}
for i = 1, #members do
  reply[#reply + 1] = members[i]
  reply[#reply + 1] = redis.call('HGET', KEYS[2], members[i]) or ''
end
return reply
