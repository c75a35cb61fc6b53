#!lua flags=allow-oom
-- Deregister workers at once, with the reason, into the stream of the lost.
-- KEYS  1 live zset  2 workers hash  3 states hash  4 lost stream
-- ARGV  1 id  2 lease seconds, to spare members whose lease is valid again; 'keep' to leave their records; or ''
--       3.. member, host, pid, reason ('' = left in order, no entry), job or '' ...
-- Returns the number of members that were removed
local at = now()
local lease = tonumber(ARGV[2])
local removed = 0
for i = 3, #ARGV, 5 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if not lease or not score or tonumber(score) < at or tonumber(score) > at + lease + 1 then
    local known = redis.call(ARGV[2] == 'keep' and 'HEXISTS' or 'HDEL', KEYS[2], ARGV[i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[3], ARGV[i])
    if score or known == 1 then
      removed = removed + 1
      -- Who has a record and no lease was reported before.
      if score and ARGV[i + 3] ~= '' then
        redis.call('XADD', KEYS[4], 'MAXLEN', '~', '10000', '*', 'at', text(at), 'resource_set', ARGV[1],
          'member', ARGV[i], 'host', ARGV[i + 1], 'pid', ARGV[i + 2], 'reason', ARGV[i + 3], 'job', ARGV[i + 4])
      end
    end
  end
end
return removed
