-- Register workers and give them leases; repeatable, a member is never two processes.
-- KEYS  1 set hash  2 live zset  3 workers hash  4 launchers hash  5 events
-- ARGV  1 id  2 generation  3 node  4 owner ('token:nonce:')  5 lease seconds  6.. member, packed info, ...
-- Returns the order for the launcher: 'ok' | 'release' | 'drain' | 'fenced' | 'vanished'
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'nworkers', 'version', 'peak_active', 'started_at')
local state = current[1]
if not state then
  return 'vanished'
end
local present = redis.call('HGET', KEYS[4], ARGV[3])
if current[2] ~= ARGV[2] or not present or string.sub(present, 1, #ARGV[4]) ~= ARGV[4] then
  return 'fenced'
end
if state == 'releasing' or one_of(ENDED, state) then
  return 'release'
end
local at = now()
local lease = text(at + tonumber(ARGV[5]))
for i = 6, #ARGV, 2 do
  redis.call('ZADD', KEYS[2], lease, ARGV[i])
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
local active = redis.call('ZCOUNT', KEYS[2], text(at), text(at + tonumber(ARGV[5]) + 1))
if active > tonumber(current[5] or '0') then
  redis.call('HSET', KEYS[1], 'peak_active', active)
end
local complete = active >= tonumber(current[3])
if complete then
  redis.call('HSET', KEYS[1], 'error', '')
end
if complete and one_of('submitting,pending,starting', state) then
  redis.call('HSET', KEYS[1], 'state', 'active', 'version', tonumber(current[4]) + 1, 'changed_at', text(at))
  if not current[6] then
    redis.call('HSET', KEYS[1], 'started_at', text(at))
  end
  emit(KEYS[5], at, ARGV[1], ARGV[2], state, 'active', active .. ' workers')
end
if state == 'draining' then
  return 'drain'
end
return 'ok'
