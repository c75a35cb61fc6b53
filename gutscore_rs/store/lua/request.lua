-- Put a resource set into the shared queue: described or ended -> requested.
-- KEYS  1 set hash  2 sets zset  3 live zset  4 workers hash  5 states hash  6 launchers hash
--       7 tombstone  8 events
-- ARGV  1 id  2 seconds until the request expires  3 nonce of this request  4.. field, value, ...
-- A request repeated with its nonce (a reply was lost) succeeds again and changes nothing.
-- Returns {'ok', generation, version} | {'busy', state} | {'live', number of leases}
local at = now()
local known = redis.call('HMGET', KEYS[1], 'state', 'request_nonce', 'generation', 'version')
local state = known[1]
if known[2] == ARGV[3] then
  return {'ok', tonumber(known[3]), tonumber(known[4])}
end
if state and state ~= 'described' and not one_of(ENDED, state) then
  return {'busy', state}
end
local live = redis.call('ZCOUNT', KEYS[3], text(at), '+inf')
if live > 0 then
  return {'live', live}
end
local generation = tonumber(known[3] or '0') + 1
local version = tonumber(known[4] or '0') + 1
-- A full server refuses a script only at its first write, and only one that needs memory (not DEL).
redis.call('HSET', KEYS[1], 'schema', '1')
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('HSET', KEYS[1], 'schema', '1', 'state', 'requested', 'request_nonce', ARGV[3],
  'generation', generation, 'version', version,
  'requested_at', text(at), 'changed_at', text(at), 'expires_at', text(at + tonumber(ARGV[2])),
  'attempts', '0', 'launches', '0', 'peak_active', '0', 'error', '', 'pending_reason', '')
redis.call('ZADD', KEYS[2], text(at), ARGV[1])
emit(KEYS[8], at, ARGV[1], generation, state, 'requested', '')
return {'ok', generation, version}
