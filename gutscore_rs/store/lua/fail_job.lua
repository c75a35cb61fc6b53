-- An operation failed: the minimum that RQ's readers need (rq 3.0, results.py: type 2 is a failure). Calls nothing that
-- the job names: no retry, no callback, no webhook.
-- KEYS  1 RQ worker hash  2 its executions set  3 started registry  4 failed registry  5 job hash  6 results stream
-- ARGV  1 job id  2 execution id  3 worker name  4 seconds to keep it  5 ended at (RQ's ISO text)
--       6 error text, zlib-compressed, in base64  7 RQ's key prefix  8 execution started at (s)
-- Returns 'ok' | 'fenced'
local execution = ARGV[1] .. ':' .. ARGV[2]
if not redis.call('ZSCORE', KEYS[3], execution) then
  if redis.call('HGET', KEYS[5], 'gs_done') == ARGV[2] then
    return 'ok'
  end
  redis.call('SREM', KEYS[2], execution)
  return 'fenced'
end
local at = now()
redis.call('HSET', KEYS[5], 'status', 'failed', 'ended_at', ARGV[5], 'last_heartbeat', ARGV[5], 'gs_done', ARGV[2])
redis.call('XADD', KEYS[6], 'MAXLEN', '10', '*', 'type', '2', 'worker_name', ARGV[3], 'exc_string', ARGV[6],
  'execution_id', ARGV[2], 'execution_started_at', ARGV[8], 'execution_ended_at', text(at))
redis.call('EXPIRE', KEYS[5], ARGV[4])
redis.call('EXPIRE', KEYS[6], ARGV[4])
redis.call('ZADD', KEYS[4], text(at + tonumber(ARGV[4])), ARGV[1])
redis.call('DEL', ARGV[7] .. ':execution:' .. execution)
redis.call('ZREM', ARGV[7] .. ':executions:' .. ARGV[1], ARGV[2])
redis.call('ZREM', KEYS[3], execution)
redis.call('SREM', KEYS[2], execution)
redis.call('HINCRBY', KEYS[1], 'failed_job_count', 1)
redis.call('HSET', KEYS[1], 'state', 'idle', 'last_heartbeat', ARGV[5])
redis.call('EXPIRE', KEYS[1], 480, 'NX')
return 'ok'
