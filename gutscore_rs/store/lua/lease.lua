-- Take or renew a lease: a periodic duty, or the lock of one resource set.
-- KEYS  1 lease
-- ARGV  1 owner  2 milliseconds
-- Returns 1 when it is held by the owner now, else 0
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
