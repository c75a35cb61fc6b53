-- A launcher's first act, before any worker: it wins its node for this launch, or it must go.
-- KEYS  1 set hash  2 launchers hash  3 events
-- ARGV  1 id  2 generation  3 token  4 node  5 nonce  6 packed identity
-- Returns {'ok', field, value, ... of the set} | {'no', why}
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'token', 'deadline', 'runtime', 'version')
local state = current[1]
if not state then
  return {'no', 'the resource set is unknown in Redis'}
end
if current[2] ~= ARGV[2] then
  return {'no', 'a newer request (generation ' .. current[2] .. ') took its place'}
end
if current[3] ~= ARGV[3] then
  return {'no', 'a newer launch took its place'}
end
if not one_of('submitting,pending,starting,active', state) then
  return {'no', 'the resource set is ' .. state}
end
local owner = ARGV[3] .. ':' .. ARGV[5] .. ':'
local present = redis.call('HGET', KEYS[2], ARGV[4])
if present and string.sub(present, 1, #owner) ~= owner
   and string.sub(present, 1, #ARGV[3] + 1) == ARGV[3] .. ':' then
  return {'no', 'another launcher of the same launch holds this node'}
end
local at = now()
redis.call('HSET', KEYS[2], ARGV[4], owner .. ARGV[6])
if not current[4] then
  redis.call('HSET', KEYS[1], 'deadline', text(at + tonumber(current[5])))
end
if state == 'submitting' or state == 'pending' then
  redis.call('HSET', KEYS[1], 'state', 'starting', 'version', tonumber(current[6]) + 1,
    'changed_at', text(at), 'pending_reason', '')
  emit(KEYS[3], at, ARGV[1], ARGV[2], state, 'starting', 'launcher on ' .. ARGV[4])
end
local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, text(at))
table.insert(reply, 1, 'ok')
return reply
