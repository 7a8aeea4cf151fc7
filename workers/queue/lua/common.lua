-- Joined before every other script. KEYS are the fixed keys of one queue, always in this order.
-- Every script writes the new place of a body before it clears the old one: an error between loses nothing.
local QUEUE, RETRY, BODIES, ATTEMPTS, CRASHES, INFLIGHT, FENCE, DEAD, SINCE, PAUSED, LEADER, REAPED = unpack(KEYS)
local call = redis.call

local USED_MS = 3600000 -- how long a token that held a claim stays known after the claim has ended
local MAX_BODY = 262144 -- bytes; what is longer is refused by every worker, so it is not decoded here either
local MAX_READ = 16384 -- bytes; a longer element is not decoded where that only serves order or sight
local MAX_ENVELOPES = 6
local MAX_ID = 64

local function key(kind, name)
  return QUEUE .. ':' .. kind .. ':' .. name
end

-- The fence under which a token holds its claim. 0 when it holds none: unknown, ended, parked, or its body is gone.
local function held(token)
  if call('HEXISTS', BODIES, token) == 0 then return 0 end
  return tonumber(call('HGET', INFLIGHT, token) or '0') or 0
end

-- The next fence. Rises even when redis came back from an older copy, or without its counter.
local function next_number(now_ms)
  local last = tonumber(call('GET', FENCE) or '0') or 0
  local number = string.format('%.0f', math.max(last + 1, now_ms))
  call('SET', FENCE, number)
  return number
end

local function read(id)
  return {
    body = call('HGET', BODIES, id),
    attempts = tonumber(call('HGET', ATTEMPTS, id) or '0') or 0,
    crashes = tonumber(call('HGET', CRASHES, id) or '0') or 0,
  }
end

local function write(id, record)
  call('HSET', BODIES, id, record.body)
  call('HSET', ATTEMPTS, id, record.attempts)
  call('HSET', CRASHES, id, record.crashes)
end

local function erase(id)
  call('HDEL', BODIES, id)
  call('HDEL', ATTEMPTS, id)
  call('HDEL', CRASHES, id)
end

-- Ends a claim. Its token can never claim again, and its body lives on only under another id.
local function leave(token)
  call('SET', key('used', token), '1', 'PX', USED_MS)
  call('HDEL', INFLIGHT, token)
  call('DEL', key('lock', token))
  erase(token)
end

-- Into the retry list; push is LPUSH for its head, RPUSH for its tail.
local function put_back(record, push, now_ms)
  local id = 'r' .. next_number(now_ms)
  write(id, record)
  call(push, RETRY, id)
end

-- In flight without an owner, until the lock ends.
local function hold_back(record, delay_ms, now_ms)
  local id = 'p' .. next_number(now_ms)
  write(id, record)
  call('SET', key('lock', id), '0', 'PX', math.max(1, delay_ms))
  call('HSET', INFLIGHT, id, '0')
end

local function decoded(text)
  local ok, value = pcall(function() return cjson.decode(text) end)
  return ok and value or nil
end

local function only_key(value, name)
  return next(value) == name and next(value, name) == nil
end

-- Producers wrap a job as a string, in a list of one, or under the single key "data".
local function unwrapped(value)
  for _ = 1, MAX_ENVELOPES do
    if type(value) == 'string' then value = decoded(value)
    elseif type(value) ~= 'table' then return nil
    elseif only_key(value, 1) then value = value[1]
    elseif only_key(value, 'data') then value = value.data
    else return value end
  end
  return type(value) == 'table' and value or nil
end

-- The epoch in ms of a UTC time as producers write it, nil where a value is none.
local function epoch_ms(value)
  local form = '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)%.?%d*(.*)$'
  local year, month, day, hour, minute, second, zone = string.match(type(value) == 'string' and value or '', form)
  if zone ~= 'Z' and zone ~= '+00:00' then return nil end
  local from_march = (month + 9) % 12 -- years that begin in March have their odd day at the end
  year = year - math.floor(from_march / 10)
  local leaps = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  local days = 365 * year + leaps + math.floor((from_march * 306 + 5) / 10) + day - 719469
  return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000
end

-- The job id in a body, nil where there is none to be read.
local function find_id(body)
  if not body or #body > MAX_BODY then return nil end
  local job = unwrapped(body)
  for _, name in ipairs({'id', 'job_id', 'jobId'}) do
    local id = job and job[name]
    if type(id) == 'string' and #id > 0 and #id <= MAX_ID then return id end
  end
  return nil
end

local function own(job, token, lease_ms)
  if job then call('SET', key('owner', job), token, 'PX', lease_ms) end
end

-- Of a job that nobody works on no progress is said. Another owner may have begun after this one was taken for dead.
local function disown(body, token)
  local job = find_id(body)
  local owner = job and call('GET', key('owner', job))
  if job and (not owner or owner == token) then call('DEL', key('owner', job), 'progress:' .. job) end
end

-- When an element says that it was made, epoch in ms; nil where it says nothing.
local function made_at(body)
  local job = body and #body <= MAX_READ and unwrapped(body) or {}
  return epoch_ms(job.created_at or job.createdAt)
end

-- What waits: how many, and since when the first of either list does, epoch in ms, -1 where that is not said.
local function sight(from_tail)
  local back = call('LINDEX', RETRY, 0)
  local first = made_at(call('LINDEX', QUEUE, from_tail and -1 or 0)) or math.huge
  local since = math.min(first, back and made_at(call('HGET', BODIES, back)) or math.huge)
  return call('LLEN', QUEUE) + call('LLEN', RETRY), since < math.huge and since or -1
end

-- Whether this is the first time in a day that a job comes back as if it were new. Until then it may be older than the
-- oldest of the list without being lost.
local function remember_restored(job)
  return call('SET', key('restored', job), '1', 'NX', 'EX', 86400)
end

-- Wakes the workers that listen. A claim that comes early finds nothing, one that nobody hears of comes later.
local function announce()
  redis.pcall('PUBLISH', 'wake:' .. QUEUE, '1')
end
