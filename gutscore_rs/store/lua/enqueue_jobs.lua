-- Enqueue plain RQ jobs, each once (rq 3.0, queue.py: enqueue_many).
-- KEYS  1 queue list  2 rq:queues
-- ARGV  1 queue name  2 RQ's key prefix  3 now as RQ's ISO text
--       4.. of each job: id, data, description, timeout (s), result ttl (s) or '', seconds that it takes or ''
-- Returns how many were enqueued now
local ids = {}
for i = 4, #ARGV, 6 do
  local job = ARGV[2] .. ':job:' .. ARGV[i]
  if redis.call('HSETNX', job, 'created_at', ARGV[3]) == 1 then
    redis.call('HSET', job, 'status', 'queued', 'origin', ARGV[1], 'enqueued_at', ARGV[3], 'data', ARGV[i + 1],
      'description', ARGV[i + 2], 'timeout', ARGV[i + 3])
    if ARGV[i + 4] ~= '' then
      redis.call('HSET', job, 'result_ttl', ARGV[i + 4])
    end
    if ARGV[i + 5] ~= '' then
      redis.call('HSET', job, 'gs_time', ARGV[i + 5])
    end
    ids[#ids + 1] = ARGV[i]
  end
end
if #ids > 0 then
  redis.call('RPUSH', KEYS[1], unpack(ids))
end
redis.call('SADD', KEYS[2], KEYS[1])
return #ids
