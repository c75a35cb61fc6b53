-- A launcher's first act, before any worker: it wins its node for this launch, or it must go.
-- KEYS  1 set hash  2 launchers hash  3 events  4 live zset
-- ARGV  1 id  2 generation  3 token  4 node  5 nonce  6 packed identity
--       7 Slurm job ('123', '123_4') or ''  8 its restart count  9 the job's end, server seconds, or ''
-- In a Slurm job the launch is named '<token>.<job>r<restarts>': of two jobs of one submission the first wins, of one
-- job the newest start, whose predecessor's launchers are fenced and whose leases end now (rulings 17, 19).
-- Returns {'ok', time, field, value, ... of the set} | {'no', why}
local current = redis.call('HMGET', KEYS[1], 'state', 'generation', 'token', 'deadline', 'runtime', 'version')
local state = current[1]
if not state then
  return {'no', 'the resource set is unknown in Redis'}
end
if current[2] ~= ARGV[2] then
  return {'no', 'a newer request (generation ' .. current[2] .. ') took its place'}
end
if not one_of('submitting,pending,starting,active', state) then
  return {'no', 'the resource set is ' .. state}
end
local at = now()
local token, ours = current[3], ARGV[3]
local requeued = false
if ARGV[7] ~= '' then
  local job = ARGV[3] .. '.' .. ARGV[7] .. 'r'
  ours = job .. ARGV[8]
  if string.sub(token, 1, #job) == job then
    local restarts = tonumber(string.sub(token, #job + 1))
    if restarts > tonumber(ARGV[8]) then
      return {'no', 'the job was requeued: its start number ' .. restarts .. ' took the place'}
    end
    requeued = restarts < tonumber(ARGV[8])
  elseif token ~= ARGV[3] then
    local same = string.sub(token, 1, #ARGV[3] + 1) == ARGV[3] .. '.'
    return {'no', same and 'another job of the same submission has the place: ' .. token or 'a newer launch took its place'}
  end
elseif token ~= ours then
  return {'no', 'a newer launch took its place'}
end
local owner = ours .. ':' .. ARGV[5] .. ':'
local present = redis.call('HGET', KEYS[2], ARGV[4])
if present and string.sub(present, 1, #owner) ~= owner and string.sub(present, 1, #ours + 1) == ours .. ':' then
  return {'no', 'another launcher of the same launch holds this node'}
end
if requeued then
  redis.call('DEL', KEYS[2])
  for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
    redis.call('ZADD', KEYS[4], text(at - 1), member)
  end
end
redis.call('HSET', KEYS[2], ARGV[4], owner .. ARGV[6])
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'token', ours, 'slurm_job', ARGV[7], 'slurm_restarts', ARGV[8])
end
local deadline, ends = tonumber(current[4] or '') or 0, tonumber(ARGV[9])
if ends and (deadline == 0 or requeued or ends < deadline) then
  redis.call('HSET', KEYS[1], 'deadline', ARGV[9])
elseif deadline == 0 then
  redis.call('HSET', KEYS[1], 'deadline', text(at + tonumber(current[5])))
end
if state == 'submitting' or state == 'pending' or requeued then
  redis.call('HSET', KEYS[1], 'state', 'starting', 'version', tonumber(current[6]) + 1,
    'changed_at', text(at), 'pending_reason', '')
  emit(KEYS[3], at, ARGV[1], ARGV[2], state, 'starting',
    (requeued and 'the job was requeued; ' or '') .. 'launcher on ' .. ARGV[4])
end
local reply = redis.call('HGETALL', KEYS[1])
table.insert(reply, 1, text(at))
table.insert(reply, 1, 'ok')
return reply
