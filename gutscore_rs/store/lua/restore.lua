-- A running launcher found its set gone (server restarted empty): bring set and launcher back.
-- KEYS  1 set hash  2 sets zset  3 tombstone  4 launchers hash  5 events
-- ARGV  1 id  2 generation  3 node  4 owner ('token:nonce:')  5 packed identity  6 requested at  7.. field, value, ...
-- Returns 'ok' | 'forgotten' | 'fenced'
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 'forgotten'
end
local at = now()
local generation = redis.call('HGET', KEYS[1], 'generation')
if generation and generation ~= ARGV[2] then
  return 'fenced'
end
local token = redis.call('HGET', KEYS[1], 'token')
if token and string.sub(ARGV[4], 1, #token + 1) ~= token .. ':' then
  return 'fenced'
end
local present = redis.call('HGET', KEYS[4], ARGV[3])
if present and string.sub(present, 1, #ARGV[4]) ~= ARGV[4] then
  return 'fenced'
end
if not generation then
  redis.call('HSET', KEYS[1], unpack(ARGV, 7))
  redis.call('HSET', KEYS[1], 'changed_at', text(at))
  redis.call('ZADD', KEYS[2], ARGV[6], ARGV[1])
  emit(KEYS[5], at, ARGV[1], ARGV[2], '', redis.call('HGET', KEYS[1], 'state'),
    'restored by the launcher on ' .. ARGV[3] .. ': Redis had lost the set')
end
redis.call('HSET', KEYS[4], ARGV[3], ARGV[4] .. ARGV[5])
return 'ok'
