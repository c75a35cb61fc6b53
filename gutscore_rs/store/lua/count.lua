-- Valid leases by the server's clock: exact even when nobody sweeps.
-- KEYS  1.. live zsets
-- ARGV  1 lease seconds (an upper bound, so that a clock that stepped back does not keep the dead)
-- Returns {count, ...}
local at = now()
local reply = {}
for i = 1, #KEYS do
  reply[i] = redis.call('ZCOUNT', KEYS[i], at, at + ARGV[1] + 1)
end
return reply
