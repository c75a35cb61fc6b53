-- A provisioner's lease. The members of dead ones stay until the reaper has put back what they had taken.
-- KEYS  1 provisioners zset  2 provisioner info hash
-- ARGV  1 member  2 lease seconds  3 packed info
-- Returns 'ok'
local at = now()
redis.call('ZADD', KEYS[1], text(at + tonumber(ARGV[2])), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 'ok'
