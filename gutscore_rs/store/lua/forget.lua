-- Remove an ended set for good; the tombstone keeps a late launcher from bringing it back.
-- KEYS  1 set hash  2 sets zset  3 live zset  4 workers hash  5 states hash  6 launchers hash  7 lock  8 tombstone
-- ARGV  1 id  2 seconds of the tombstone
-- Returns {'ok'} | {'no', state, number of valid leases}
local state = redis.call('HGET', KEYS[1], 'state')
local live = redis.call('ZCOUNT', KEYS[3], text(now()), '+inf')
if live > 0 or (state and state ~= 'described' and not one_of(ENDED, state)) then
  return {'no', state or 'unknown', live}
end
redis.call('SET', KEYS[8], '1', 'EX', ARGV[2])
redis.call('DEL', KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('ZREM', KEYS[2], ARGV[1])
return {'ok'}
