-- A plain job ended well: result, registries and counters in one step, refused to whoever lost the job.
-- KEYS  1 RQ worker hash  2 its executions set  3 started registry  4 finished registry  5 job hash  6 results stream
-- ARGV  1 job id  2 execution id  3 worker name  4 result ttl (s; -1: no end)  5 ended at (RQ's ISO text)
--       6 seconds worked  7 serialized result (base64) or ''  8 RQ's key prefix  9 execution started at (s)
-- Returns 'ok' | 'fenced' (the job was given to somebody else) | 'complex' (has dependents: RQ's own code must do it)
local execution = ARGV[1] .. ':' .. ARGV[2]
if not redis.call('ZSCORE', KEYS[3], execution) then
  if redis.call('HGET', KEYS[5], 'gs_done') == ARGV[2] then
    return 'ok'
  end
  redis.call('SREM', KEYS[2], execution)
  return 'fenced'
end
if redis.call('EXISTS', ARGV[8] .. ':job:' .. ARGV[1] .. ':dependents') == 1 then
  return 'complex'
end
local at = now()
local ttl = tonumber(ARGV[4])
redis.call('HSET', KEYS[5], 'status', 'finished', 'ended_at', ARGV[5], 'last_heartbeat', ARGV[5], 'gs_done', ARGV[2])
local result = {'type', '1', 'worker_name', ARGV[3], 'execution_id', ARGV[2],
  'execution_started_at', ARGV[9], 'execution_ended_at', text(at)}
if ARGV[7] ~= '' then
  result[#result + 1] = 'return_value'
  result[#result + 1] = ARGV[7]
end
redis.call('XADD', KEYS[6], 'MAXLEN', '10', '*', unpack(result))
if ttl > 0 then
  redis.call('EXPIRE', KEYS[5], ttl)
  redis.call('EXPIRE', KEYS[6], ttl)
  redis.call('ZADD', KEYS[4], text(at + ttl), ARGV[1])
else
  redis.call('PERSIST', KEYS[5])
  redis.call('PERSIST', KEYS[6])
  redis.call('ZADD', KEYS[4], '+inf', ARGV[1])
end
redis.call('DEL', ARGV[8] .. ':execution:' .. execution)
redis.call('ZREM', ARGV[8] .. ':executions:' .. ARGV[1], ARGV[2])
redis.call('ZREM', KEYS[3], execution)
redis.call('SREM', KEYS[2], execution)
redis.call('HINCRBY', KEYS[1], 'successful_job_count', 1)
redis.call('HINCRBYFLOAT', KEYS[1], 'total_working_time', ARGV[6])
redis.call('HSET', KEYS[1], 'state', 'idle', 'last_heartbeat', ARGV[5])
redis.call('EXPIRE', KEYS[1], 480, 'NX')
return 'ok'
