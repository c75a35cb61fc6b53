-- Enqueue calls of an executor, as RQ jobs, once: a batch that is sent again (its reply was lost) changes nothing.
-- KEYS  1 number of the executor's newest batch  2 queue list  3 rq:queues
-- ARGV  1 number of this batch, rising  2 queue name  3 RQ's key prefix  4 now as RQ's ISO text  5 stream for results
--       6 seconds to keep the number  7 seconds to keep a job that failed
--       8.. of each call: job id, data, timeout (s), retries or '', seconds that it takes or '', description
-- Returns how many were enqueued
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
local ids = {}
for i = 8, #ARGV, 6 do
  local id = ARGV[i]
  local job = ARGV[3] .. ':job:' .. id
  -- result_ttl is for workers of stock RQ: of a call that ours ran nothing stays here.
  redis.call('HSET', job, 'status', 'queued', 'origin', ARGV[2], 'created_at', ARGV[4], 'enqueued_at', ARGV[4],
    'data', ARGV[i + 1], 'timeout', ARGV[i + 2], 'result_ttl', '3600', 'failure_ttl', ARGV[7],
    'description', ARGV[i + 5], 'gs_reply', ARGV[5])
  if ARGV[i + 3] ~= '' then
    redis.call('HSET', job, 'retries_left', ARGV[i + 3])
  end
  if ARGV[i + 4] ~= '' then
    redis.call('HSET', job, 'gs_time', ARGV[i + 4])
  end
  ids[#ids + 1] = id
end
for first = 1, #ids, 1000 do
  redis.call('RPUSH', KEYS[2], unpack(ids, first, math.min(first + 999, #ids)))
end
redis.call('SADD', KEYS[3], KEYS[2])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[6])
return #ids
