-- A worker's one call: books the good ends that it brings, then takes jobs. In one step, so that a job is in its queue
-- or in the registry, never in neither. RQ writes the same records in some 40 commands (rq 3.0, worker/base.py).
-- KEYS  1 RQ worker hash  2 its executions set  3 rq:suspended
--       4.. of each queue: list, started registry, finished registry, set of its workers
-- ARGV  1 number of this claim, rising; '' claims nothing  2 worker name  3 begin of the execution ids (28 hex)
--       4 now as RQ's ISO text  5 default timeout (s)  6 RQ's key prefix  7 seconds that the worker has left, or '' for
--       no end  8 most jobs to take  9 seconds worked  10 whether there are records of the executions (0, 1)
--       11 how many ends
--       12.. of each end: queue index from 0, job id, execution id, result ttl (s; -1: no end), started at and ended at
--       (RQ's ISO text), started at (s), serialized result (base64) or '', stream that its result goes to instead or '',
--       whether that is an error (0, 1)
-- Returns {outcome of each end as a letter, now, jobs left in the queue that was looked at last, {queue index, job id,
--       execution id, field, ...} of each job taken}
--       o: booked; f: fenced (the job was given to somebody else); c: complex (RQ's own code must do it)
-- An end that comes twice is booked once. A claim repeated with the same number (its reply was lost) returns the same
-- jobs again; one that comes after a newer claim or a fence was held up on its way: nobody waits for it, it takes
-- nothing. A job that says how long it takes (gs_time) and does not fit stays in its place, for a worker that lives
-- longer; behind it fitting ones are looked for, 100 deep. RQ's record of an execution is written where a job lasts
-- (record_execution): most are over before a reader could look.
local prefix, worker = ARGV[6], ARGV[2]
local at = now()

local FIELDS = {'status', 'timeout', 'gs_time', 'ttl', 'data', 'result_ttl', 'success_callback_name', 'repeats_left',
  'rate_limit_key', 'webhooks', 'group_id', 'gs_reply', 'retries_left'}
local STATUS, TIMEOUT, TIME, TTL = 1, 2, 3, 4
local WIDTH = 10

local function end_of(i)
  local from = 11 + (i - 1) * WIDTH
  return {q = 4 + 4 * tonumber(ARGV[from + 1]), id = ARGV[from + 2], execution = ARGV[from + 3],
    ttl = tonumber(ARGV[from + 4]), started_iso = ARGV[from + 5], ended_iso = ARGV[from + 6],
    started = ARGV[from + 7], result = ARGV[from + 8], reply = ARGV[from + 9], wrong = ARGV[from + 10] == '1'}
end

-- The ends by queue, and which of them still belong to this worker.
local function holding(ends)
  local held, members = {}, {}
  for i, one in ipairs(ends) do
    members[one.q] = members[one.q] or {}
    table.insert(members[one.q], one.id .. ':' .. one.execution)
    one.place = #members[one.q]
  end
  for q, list in pairs(members) do
    held[q] = redis.call('ZMSCORE', KEYS[q + 1], unpack(list))
  end
  return held, members
end

local function any_dependents(ends)
  local keys = {}
  for i, one in ipairs(ends) do
    keys[i] = prefix .. ':job:' .. one.id .. ':dependents'
  end
  return redis.call('EXISTS', unpack(keys)) > 0
end

local function write_result(one)
  local job, results = prefix .. ':job:' .. one.id, prefix .. ':results:' .. one.id
  redis.call('HSET', job, 'status', 'finished', 'started_at', one.started_iso, 'ended_at', one.ended_iso,
    'last_heartbeat', one.ended_iso, 'gs_done', one.execution)
  if one.result ~= '' then
    redis.call('XADD', results, 'MAXLEN', '10', '*', 'type', '1', 'worker_name', worker, 'execution_id', one.execution,
      'execution_started_at', one.started, 'execution_ended_at', text(at), 'return_value', one.result)
  else
    redis.call('XADD', results, 'MAXLEN', '10', '*', 'type', '1', 'worker_name', worker, 'execution_id', one.execution,
      'execution_started_at', one.started, 'execution_ended_at', text(at))
  end
  if one.ttl > 0 then
    redis.call('EXPIRE', job, one.ttl)
    redis.call('EXPIRE', results, one.ttl)
  else
    redis.call('PERSIST', job)
    redis.call('PERSIST', results)
  end
end

-- Results that somebody waits for go there, all in one entry; of their jobs nothing stays.
local function send(replies, gone)
  for stream, list in pairs(replies) do
    redis.call('XADD', stream, '*', unpack(list))
    redis.call('EXPIRE', stream, 3600)
  end
  if #gone > 0 then
    redis.call('UNLINK', unpack(gone))
  end
end

local function book(count)
  local ends, said = {}, {}
  for i = 1, count do
    ends[i] = end_of(i)
  end
  local held, members = holding(ends)
  local dependents = any_dependents(ends)
  local finished, replies, gone, good, bad = {}, {}, {}, 0, 0
  local over = {}
  for i, one in ipairs(ends) do
    local job, execution = prefix .. ':job:' .. one.id, one.id .. ':' .. one.execution
    if not held[one.q][one.place] then
      local known = redis.call('HGET', job, 'gs_done')
      said[i] = (known == one.execution or (not known and one.reply ~= '')) and 'o' or 'f'
      redis.call('SREM', KEYS[2], execution)
    elseif redis.call('HGET', job, 'status') ~= 'started' then
      -- Its user cancelled or deleted it while it ran.
      said[i] = 'f'
      over[one.q] = over[one.q] or {}
      table.insert(over[one.q], execution)
    elseif dependents and redis.call('EXISTS', job .. ':dependents') == 1 then
      said[i] = 'c'
    else
      said[i] = 'o'
      over[one.q] = over[one.q] or {}
      table.insert(over[one.q], execution)
      if ARGV[10] == '1' then
        redis.call('DEL', prefix .. ':execution:' .. execution)
        redis.call('ZREM', prefix .. ':executions:' .. one.id, one.execution)
      end
      if one.wrong then
        bad = bad + 1
      else
        good = good + 1
      end
      if one.reply ~= '' then
        replies[one.reply] = replies[one.reply] or {}
        table.insert(replies[one.reply], one.id)
        table.insert(replies[one.reply], one.result)
        table.insert(gone, job)
      else
        write_result(one)
        finished[one.q] = finished[one.q] or {}
        table.insert(finished[one.q], one.ttl > 0 and text(at + one.ttl) or '+inf')
        table.insert(finished[one.q], one.id)
      end
    end
  end
  send(replies, gone)
  for q, list in pairs(finished) do
    redis.call('ZADD', KEYS[q + 2], unpack(list))
  end
  for q, list in pairs(over) do
    redis.call('ZREM', KEYS[q + 1], unpack(list))
    redis.call('SREM', KEYS[2], unpack(list))
  end
  if good > 0 then
    redis.call('HINCRBY', KEYS[1], 'successful_job_count', good)
  end
  if bad > 0 then
    redis.call('HINCRBY', KEYS[1], 'failed_job_count', bad)
  end
  if good + bad > 0 then
    redis.call('HINCRBYFLOAT', KEYS[1], 'total_working_time', ARGV[9])
  end
  return table.concat(said)
end

local function row(index, id, execution, fields)
  local out = {tostring(index), id, execution}
  for i = 1, #FIELDS do
    out[3 + i] = fields[i]
  end
  return out
end

-- What is no job id (RQ's are printable and without spaces) or no hash was put there by somebody else: dropped.
local function look_at(id)
  return string.match(id, '^[%w%p]+$') and redis.pcall('HMGET', prefix .. ':job:' .. id, unpack(FIELDS)) or {}
end

local function timeout_of(fields)
  local seconds = tonumber(fields[TIMEOUT] or '') or tonumber(ARGV[5])
  -- Also catches NaN. An endless job (timeout -1) has no crash deadline; its launcher renews this one.
  return (seconds < 1e9 and seconds > 0) and math.ceil(seconds) or 3600
end

-- Jobs that are few are shared by the workers of their queue.
local function share(q, most)
  if most < 2 then
    return most
  end
  local workers = redis.call('SCARD', KEYS[q + 3])
  if workers < 2 then
    return most
  end
  return math.max(1, math.min(most, math.ceil(redis.call('LLEN', KEYS[q]) / (2 * workers))))
end

-- Queued jobs of a queue that fit into the worker's time, taken out of it; bounded, so that no call blocks the server.
local function pop(q, most)
  local left, found, stay, seen, looked = tonumber(ARGV[7]), {}, {}, {}, 0
  while #found < most and looked < 100 do
    local ids = redis.call('LPOP', KEYS[q], math.min(most - #found, 100 - looked))
    if not ids then
      break
    end
    for _, id in ipairs(ids) do
      looked = looked + 1
      -- An id may stand there twice: what comes second finds a job that is started, here or later.
      local fields = seen[id] and {} or look_at(id)
      seen[id] = true
      if fields[STATUS] == 'queued' then
        if left and (tonumber(fields[TIME] or '') or 0) > left then
          table.insert(stay, id)
        else
          table.insert(found, {id, fields})
        end
      end
    end
  end
  for i = #stay, 1, -1 do
    redis.call('LPUSH', KEYS[q], stay[i])
  end
  return found
end

-- Jobs of a batch run one after the other: each may take its whole timeout.
local function take(q, most)
  local rows, notes, scores, executions, until_then = {}, {}, {}, {}, 0
  for i, one in ipairs(pop(q, share(q, most))) do
    local id, fields = one[1], one[2]
    local execution = ARGV[3] .. string.format('%04x', i)
    until_then = until_then + timeout_of(fields)
    redis.call('HSET', prefix .. ':job:' .. id, 'status', 'started', 'started_at', ARGV[4], 'last_heartbeat', ARGV[4],
      'worker_name', worker)
    if fields[TTL] then
      redis.call('PERSIST', prefix .. ':job:' .. id)
    end
    table.insert(scores, text(at + until_then + 60))
    table.insert(scores, id .. ':' .. execution)
    table.insert(executions, id .. ':' .. execution)
    table.insert(rows, row((q - 4) / 4, id, execution, fields))
    table.insert(notes, ((q - 4) / 4) .. ' ' .. id .. ' ' .. execution)
  end
  if #rows > 0 then
    redis.call('ZADD', KEYS[q + 1], unpack(scores))
    redis.call('SADD', KEYS[2], unpack(executions))
  end
  return rows, notes
end

local function taken_before(notes)
  local rows = {}
  for index, id, execution in string.gmatch(notes, '(%d+) (%S+) (%S+)') do
    table.insert(rows, row(index, id, execution, look_at(id)))
  end
  return rows
end

local function claim()
  local before = redis.call('HMGET', KEYS[1], 'gs_claim', 'gs_claimed')
  if before[1] == ARGV[1] then
    return taken_before(before[2] or ''), 1
  end
  if before[1] and tonumber(before[1]) > tonumber(ARGV[1]) then
    return {}, 0
  end
  local rows, notes, more = {}, {}, 0
  if redis.call('EXISTS', KEYS[3]) == 0 then
    for q = 4, #KEYS, 4 do
      rows, notes = take(q, tonumber(ARGV[8]))
      if #rows > 0 then
        more = redis.call('LLEN', KEYS[q])
        break
      end
    end
  end
  redis.call('HSET', KEYS[1], 'state', #rows > 0 and 'busy' or 'idle', 'last_heartbeat', ARGV[4], 'gs_claim', ARGV[1],
    'gs_claimed', table.concat(notes, ' '))
  return rows, more
end

local said = tonumber(ARGV[11]) > 0 and book(tonumber(ARGV[11])) or ''
local rows, more = {}, 0
if ARGV[1] ~= '' then
  rows, more = claim()
end
if ARGV[1] == '' then
  redis.call('HSET', KEYS[1], 'state', 'idle', 'last_heartbeat', ARGV[4])
end
-- Only where RQ's worker hash had vanished and this made it anew: its beats renew it otherwise.
redis.call('EXPIRE', KEYS[1], 480, 'NX')
return {said, text(at), more, unpack(rows)}
