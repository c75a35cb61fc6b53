-- Put a claimed job back where it came from, as if it had not been taken.
-- KEYS  1 executions set of the RQ worker that had it  2 started registry  3 queue list  4 job hash
-- ARGV  1 job id  2 execution id  3 most deliveries, or '' when the worker is known not to have run it to the end
--       4 RQ's key prefix
-- Returns 'ok' | 'fenced' (it is no longer booked for that execution) | 'exhausted' (came back too often; left booked)
local execution = ARGV[1] .. ':' .. ARGV[2]
if not redis.call('ZSCORE', KEYS[2], execution) then
  if redis.call('HGET', KEYS[4], 'gs_returned') == ARGV[2] then
    return 'ok'
  end
  redis.call('SREM', KEYS[1], execution)
  return 'fenced'
end
if ARGV[3] ~= '' and tonumber(redis.call('HGET', KEYS[4], 'gs_deliveries') or '0') + 1 >= tonumber(ARGV[3]) then
  return 'exhausted'
end
redis.call('ZREM', KEYS[2], execution)
redis.call('SREM', KEYS[1], execution)
redis.call('DEL', ARGV[4] .. ':execution:' .. execution)
redis.call('ZREM', ARGV[4] .. ':executions:' .. ARGV[1], ARGV[2])
if redis.call('HGET', KEYS[4], 'status') ~= 'started' then
  -- Its user cancelled or deleted it meanwhile.
  return 'ok'
end
if ARGV[3] ~= '' then
  redis.call('HINCRBY', KEYS[4], 'gs_deliveries', 1)
end
redis.call('HSET', KEYS[4], 'status', 'queued', 'gs_returned', ARGV[2])
redis.call('HDEL', KEYS[4], 'started_at', 'worker_name')
redis.call('LPUSH', KEYS[3], ARGV[1])
return 'ok'
