-- A launcher's last act: all its workers are reaped and deregistered.
-- KEYS  1 set hash  2 launchers hash  3 events  4 live zset  5 workers hash  6 states hash
-- ARGV  1 id  2 generation  3 node  4 owner ('token:nonce:')  5 final state or ''  6 why
--       7 seconds to keep an ended set
-- The final state (expired, failed) is taken when this was the last launcher and nobody asked for a release.
-- Returns 'ok' | 'fenced'
local present = redis.call('HGET', KEYS[2], ARGV[3])
if not present or string.sub(present, 1, #ARGV[4]) ~= ARGV[4] then
  return 'fenced'
end
redis.call('HDEL', KEYS[2], ARGV[3])
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'version')
local state = current[1]
if ARGV[5] == '' or not state or current[2] ~= ARGV[2] or state == 'releasing' or one_of(ENDED, state)
   or redis.call('HLEN', KEYS[2]) > 0 then
  return 'ok'
end
local at = now()
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'version', tonumber(current[3]) + 1,
  'changed_at', text(at), 'ended_at', text(at))
if ARGV[5] == 'failed' then
  redis.call('HSET', KEYS[1], 'error', ARGV[6])
end
keep_for(ARGV[7], KEYS, 1, 2)
keep_for(ARGV[7], KEYS, 4, 6)
emit(KEYS[3], at, ARGV[1], ARGV[2], state, ARGV[5], ARGV[6])
return 'ok'
