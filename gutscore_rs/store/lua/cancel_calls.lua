-- Take calls back that no worker has begun.
-- KEYS  1 queue list
-- ARGV  1 RQ's key prefix  2 longest queue that is searched  3.. job ids
-- Returns for each id 1 (it will never run) or 0 (a worker has it, or it is over)
-- Sent again, it says the same: of a job that was taken back a mark stays for some seconds.
-- In a long queue its id stays, where workers pass over it: to search for each would hold up the server.
local said = {}
local short = redis.call('LLEN', KEYS[1]) <= tonumber(ARGV[2])
for i = 3, #ARGV do
  local job = ARGV[1] .. ':job:' .. ARGV[i]
  local status = redis.call('HGET', job, 'status')
  if status == 'queued' then
    redis.call('DEL', job)
    redis.call('HSET', job, 'status', 'canceled')
    redis.call('EXPIRE', job, 15)
    if short then
      redis.call('LREM', KEYS[1], 1, ARGV[i])
    end
  end
  said[#said + 1] = (status == 'queued' or status == 'canceled') and 1 or 0
end
return said
