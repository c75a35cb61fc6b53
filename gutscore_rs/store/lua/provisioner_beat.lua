-- A provisioner's lease, and the end of those whose lease is long over.
-- KEYS  1 provisioners zset  2 provisioner info hash
-- ARGV  1 member  2 lease seconds  3 packed info
-- Returns 'ok'
local at = now()
redis.call('ZADD', KEYS[1], text(at + tonumber(ARGV[2])), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(at - 60), 'LIMIT', 0, 100)
for i = 1, #gone do
  redis.call('ZREM', KEYS[1], gone[i])
  redis.call('HDEL', KEYS[2], gone[i])
end
return 'ok'
