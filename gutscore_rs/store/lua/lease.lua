-- Take or renew a lease: a periodic duty, or the lock of one resource set.
-- KEYS  1 lease
-- ARGV  1 owner  2 milliseconds
-- Returns 1 when it is held by the owner now, else 0
-- Ours always end by themselves: what has no end, or is no string, was not written by us and keeps nobody out.
local known = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('PTTL', KEYS[1]) >= 0
local owner = known and redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
