-- Members with a valid lease.
-- KEYS  1.. live zsets
-- ARGV  1 lease seconds
-- Returns {{member, ...}, ...}
local at = now()
local reply = {}
for i = 1, #KEYS do
  reply[i] = redis.call('ZRANGEBYSCORE', KEYS[i], text(at), text(at + tonumber(ARGV[1]) + 1))
end
return reply
