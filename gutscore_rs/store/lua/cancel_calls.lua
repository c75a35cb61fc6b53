-- Take calls back that no worker has begun.
-- KEYS  1 queue list
-- ARGV  1 RQ's key prefix  2 longest queue that is searched  3.. job ids
-- Returns for each id 1 (it will never run) or 0 (a worker has it, or it is over)
-- In a long queue its id stays, where workers pass over it: to search for each would hold up the server.
local said = {}
local short = redis.call('LLEN', KEYS[1]) <= tonumber(ARGV[2])
for i = 3, #ARGV do
  local job = ARGV[1] .. ':job:' .. ARGV[i]
  if redis.call('HGET', job, 'status') == 'queued' then
    redis.call('DEL', job)
    if short then
      redis.call('LREM', KEYS[1], 1, ARGV[i])
    end
    said[#said + 1] = 1
  else
    said[#said + 1] = 0
  end
end
return said
