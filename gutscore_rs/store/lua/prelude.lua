-- The server's time in seconds. Of these definitions a script gets those that it uses (scripts.py).
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) + tonumber(t[2]) / 1000000
end

-- Seconds as text with microseconds: tostring() would round to 14 digits.
local function text(seconds)
  return string.format('%.6f', seconds)
end

local function emit(events, at, id, generation, from, state, why)
  redis.call('XADD', events, 'MAXLEN', '~', '10000', '*',
    'at', text(at), 'resource_set', id, 'generation', generation or '0',
    'from', from or '', 'state', state, 'why', why or '')
end

local function one_of(list, value)
  return value and string.find(',' .. list .. ',', ',' .. value .. ',', 1, true) ~= nil
end

-- The keys of a set that ended go with it, whether or not anybody is left to tidy up.
local function keep_for(seconds, keys, first, last)
  for i = first, last do
    redis.call('EXPIRE', keys[i], seconds)
  end
end

local ENDED = 'released,failed,expired'
