-- Members whose lease is over, oldest first, with their packed records; nothing is removed. One that ends later than any
-- lease that could be given now was given before the clock stepped back, and nobody has renewed it since.
-- KEYS  1 live zset  2 workers hash
-- ARGV  1 limit  2 lease seconds
-- Returns {member, packed info or '', ...}
local at = now()
local reply = {}
local function add(from, to)
  local members = redis.call('ZRANGEBYSCORE', KEYS[1], from, to, 'LIMIT', 0, ARGV[1])
  for i = 1, #members do
    reply[#reply + 1] = members[i]
    reply[#reply + 1] = redis.call('HGET', KEYS[2], members[i]) or ''
  end
end
add('-inf', '(' .. text(at))
add('(' .. text(at + tonumber(ARGV[2]) + 1), '+inf')
return reply
