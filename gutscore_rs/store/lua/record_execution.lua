-- Write RQ's record of an execution that lasts (rq 3.0, executions.py), unless it is over.
-- KEYS  1 started registry  2 record of the execution  3 executions of the job  4 executions of the worker
-- ARGV  1 job id  2 execution id  3 worker name
-- Returns 1 (written) or 0 (it is not booked any more)
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1] .. ':' .. ARGV[2])
if not deadline then
  return 0
end
local at = now()
local ttl = math.max(60, math.ceil(tonumber(deadline) - at))
redis.call('HSET', KEYS[2], 'id', ARGV[2], 'job_id', ARGV[1], 'created_at', text(at), 'last_heartbeat', text(at),
  'worker_name', ARGV[3])
redis.call('EXPIRE', KEYS[2], ttl)
redis.call('ZADD', KEYS[3], text(at + ttl + 60), ARGV[2])
redis.call('EXPIRE', KEYS[3], ttl + 60)
-- A reader that looked before there was a record took it out of there.
redis.call('SADD', KEYS[4], ARGV[1] .. ':' .. ARGV[2])
return 1
