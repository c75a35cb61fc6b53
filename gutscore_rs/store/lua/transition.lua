-- Compare and set the state of a resource set: the only way from one state to another.
-- KEYS  1 set hash  2 events  3 live zset  4 workers hash  5 states hash  6 launchers hash
-- ARGV  1 id  2 expected states, comma separated  3 expected generation or ''
--       4 expected version or ''  5 new state  6 why  7 seconds to keep an ended set  8 nonce of this change
--       9.. field, value, ...
-- A change repeated with its nonce (a reply was lost) succeeds again and changes nothing.
-- Returns {'ok', version} | {'no', state or '', generation or '', version or ''}
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'version', 'change_nonce')
local state, generation, version = current[1], current[2], current[3]
if current[4] == ARGV[8] then
  return {'ok', tonumber(version)}
end
if not state or not one_of(ARGV[2], state)
   or (ARGV[3] ~= '' and ARGV[3] ~= generation)
   or (ARGV[4] ~= '' and ARGV[4] ~= version) then
  return {'no', state or '', generation or '', version or ''}
end
local at = now()
version = tonumber(version) + 1
redis.call('HSET', KEYS[1], 'state', ARGV[5], 'version', version, 'changed_at', text(at),
  'change_nonce', ARGV[8])
if #ARGV > 8 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 9))
end
if ARGV[5] == 'submitting' then
  redis.call('HSET', KEYS[1], 'submitted_at', text(at))
end
if one_of(ENDED, ARGV[5]) then
  redis.call('HSET', KEYS[1], 'ended_at', text(at))
  keep_for(ARGV[7], KEYS, 1, 1)
  keep_for(ARGV[7], KEYS, 3, 6)
end
emit(KEYS[2], at, ARGV[1], generation, state, ARGV[5], ARGV[6])
return {'ok', version}
