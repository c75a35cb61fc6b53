-- Pop one job and book it as started, in one step: a job is in its queue or in the registry, never in neither.
-- RQ writes the same records in two transactions after the pop (rq 3.0, executions.py and worker/base.py).
-- KEYS  1 RQ worker hash  2 its executions set  3 rq:suspended  4.. queue list, started registry, ...
-- ARGV  1 number of this claim, rising  2 worker name  3 execution id  4 now as RQ's ISO text  5 default timeout (s)
--       6 RQ's key prefix  7 seconds that the worker has left, or '' for no end
-- A job that says how long it takes (gs_time) and does not fit stays in its place, for a worker that lives longer;
-- behind it a fitting one is looked for, 100 deep.
-- A claim repeated with the same number (its reply was lost) returns the same job again. One that comes after a newer
-- claim or a fence was held up on its way (a stopped server, a slow network): nobody waits for it, it takes nothing.
-- Returns {} | {queue index from 0, job id, execution id, now, field, value, ... of the job}
local at = now()

local function reply(index, id, execution)
  local out = redis.call('HGETALL', ARGV[6] .. ':job:' .. id)
  table.insert(out, 1, text(at))
  table.insert(out, 1, execution)
  table.insert(out, 1, id)
  table.insert(out, 1, tostring(index))
  return out
end

local left = tonumber(ARGV[7])

-- The entry of a queue at a place, taken out of it if it fits; the second value: whether there is one.
local function take(q, from)
  if not left then
    local id = redis.call('LPOP', KEYS[q])
    return id, id
  end
  local id = redis.call('LINDEX', KEYS[q], from)
  if not id then
    return nil, nil
  end
  local fields = redis.pcall('HMGET', ARGV[6] .. ':job:' .. id, 'status', 'gs_time')
  if fields[1] == 'queued' and (tonumber(fields[2] or '') or 0) > left then
    return nil, id
  end
  redis.call('LREM', KEYS[q], 1, id)
  return id, id
end

local newest = redis.call('HGET', KEYS[1], 'gs_claim')
if newest == ARGV[1] then
  local index, id, execution = string.match(redis.call('HGET', KEYS[1], 'gs_claimed') or '', '^(%d+) (%S+) (%S+)$')
  if id then
    return reply(tonumber(index), id, execution)
  end
  return {}
end
if newest and tonumber(newest) > tonumber(ARGV[1]) then
  return {}
end
if redis.call('EXISTS', KEYS[3]) == 1 then
  return {}
end
for q = 4, #KEYS, 2 do
  -- Skips what is no longer queued (deleted, cancelled); bounded, so that no call blocks the server.
  local from = 0
  for _ = 1, 100 do
    local id, more = take(q, from)
    if not more then
      break
    end
    local job = ARGV[6] .. ':job:' .. (id or '')
    if not id then
      from = from + 1
    end
    -- What is no job id (RQ's are printable and without spaces) or no hash was put there by somebody else: dropped.
    local fields = id and string.match(id, '^[%w%p]+$') and redis.pcall('HMGET', job, 'status', 'timeout') or {}
    if fields[1] == 'queued' then
      local timeout = tonumber(fields[2] or '') or tonumber(ARGV[5])
      if not (timeout < 1e9) then -- also catches NaN
        timeout = -1
      end
      -- An endless job (timeout -1) has no crash deadline; its launcher renews this one.
      local ttl = math.ceil(timeout > 0 and timeout or 3600) + 60
      local execution = id .. ':' .. ARGV[3]
      redis.call('HSET', job, 'status', 'started', 'started_at', ARGV[4], 'last_heartbeat', ARGV[4],
        'worker_name', ARGV[2])
      redis.call('PERSIST', job)
      redis.call('HSET', ARGV[6] .. ':execution:' .. execution, 'id', ARGV[3], 'job_id', id,
        'created_at', text(at), 'last_heartbeat', text(at), 'worker_name', ARGV[2])
      redis.call('EXPIRE', ARGV[6] .. ':execution:' .. execution, ttl)
      redis.call('ZADD', ARGV[6] .. ':executions:' .. id, text(at + ttl + 60), ARGV[3])
      redis.call('EXPIRE', ARGV[6] .. ':executions:' .. id, ttl + 60)
      redis.call('ZADD', KEYS[q + 1], text(at + ttl), execution)
      redis.call('SADD', KEYS[2], execution)
      redis.call('HSET', KEYS[1], 'state', 'busy', 'last_heartbeat', ARGV[4],
        'gs_claim', ARGV[1], 'gs_claimed', ((q - 4) / 2) .. ' ' .. id .. ' ' .. ARGV[3])
      -- Only where RQ's worker hash had vanished and this made it anew: its beats renew it otherwise.
      redis.call('EXPIRE', KEYS[1], 480, 'NX')
      return reply((q - 4) / 2, id, ARGV[3])
    end
  end
end
redis.call('HSET', KEYS[1], 'state', 'idle', 'last_heartbeat', ARGV[4], 'gs_claim', ARGV[1])
redis.call('HDEL', KEYS[1], 'gs_claimed')
redis.call('EXPIRE', KEYS[1], 480, 'NX')
return {}
