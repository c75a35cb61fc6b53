#!lua flags=allow-oom
-- Renew the leases of all workers of one launcher in one call; the reply carries orders.
-- KEYS  1 set hash  2 live zset  3 launchers hash
-- ARGV  1 generation  2 node  3 owner ('token:nonce:')  4 lease seconds  5.. members
-- Returns {order, deadline or '', members that Redis no longer knows ...}
--         order: 'ok' | 'release' | 'drain' | 'fenced' | 'vanished'
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'deadline', 'token')
local state = current[1]
if not state then
  return {'vanished', ''}
end
if current[2] ~= ARGV[1] then
  return {'fenced', ''}
end
local order = 'ok'
if state == 'releasing' or one_of(ENDED, state) then
  order = 'release'
else
  local present = redis.call('HGET', KEYS[3], ARGV[2])
  if present and string.sub(present, 1, #ARGV[3]) ~= ARGV[3]
     or not present and string.sub(ARGV[3], 1, #current[4] + 1) ~= current[4] .. ':' then
    return {'fenced', ''}
  end
  if not present then
    return {'vanished', ''}
  end
  if state == 'draining' then
    order = 'drain'
  end
end
local reply = {order, current[3] or ''}
local n = #ARGV - 4
if n == 0 then
  return reply
end
local lease = text(now() + tonumber(ARGV[4]))
-- A thousand at a time: unpack() has a limit, and a launcher rarely has more.
for first = 5, #ARGV, 1000 do
  local last = math.min(first + 999, #ARGV)
  local pairs_ = {}
  for i = first, last do
    pairs_[#pairs_ + 1] = lease
    pairs_[#pairs_ + 1] = ARGV[i]
  end
  redis.call('ZADD', KEYS[2], 'XX', unpack(pairs_))
  -- ZADD XX cannot say which members it did not find; a second look is cheap and rarely long.
  local scores = redis.call('ZMSCORE', KEYS[2], unpack(ARGV, first, last))
  for i = 1, #scores do
    if not scores[i] then
      reply[#reply + 1] = ARGV[first + i - 1]
    end
  end
end
return reply
