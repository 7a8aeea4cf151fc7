-- The claim of the first release, joined with what its scripts shared. Workers of both must be able to share a queue.
-- Joined before every other script. KEYS are the fixed keys of one queue, always in this order.
-- Every script writes the new place of a body before it clears the old one: an error between loses nothing.
local QUEUE, RETRY, BODIES, ATTEMPTS, CRASHES, INFLIGHT, FENCE, DEAD = unpack(KEYS)
local call = redis.call

local USED_MS = 3600000 -- how long a token that held a claim stays known after the claim has ended
local MAX_BODY = 262144 -- bytes; what is longer is refused by every worker, so it is not decoded here either
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

local function disown(body, token)
  local job = find_id(body)
  if job and call('GET', key('owner', job)) == token then call('DEL', key('owner', job)) end
end
-- ARGV: token, lease in ms, the caller's epoch in ms, the end to take from ("tail" or "head").
-- Reply: {"STALE"}, or {"NONE" | "JOB", waiting, in flight, ms to the next expiry or -1} followed, for a job, by
-- body, attempt, crashes, fence, remembered record or nil, "1" when that was delivered.
local token, lease_ms, now_ms, from_tail = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == 'tail'
local MAX_DUPLICATES = 10

-- Bodies whose lock ran out go to the tail of retry. Only a claim that somebody held counts as a crash.
local function reap()
  local live, soonest, ended = 0, -1, {}
  local entries = call('HGETALL', INFLIGHT)
  for i = 1, #entries, 2 do
    local id, fence = entries[i], tonumber(entries[i + 1]) or 0
    local left = call('PTTL', key('lock', id))
    if left < 0 then
      table.insert(ended, {id = id, fence = fence})
    else
      if soonest < 0 or left < soonest then soonest = left end
      if fence > 0 then live = live + 1 end
    end
  end
  table.sort(ended, function(a, b) return a.fence < b.fence end)
  for _, claim in ipairs(ended) do
    local record = read(claim.id)
    if claim.fence > 0 then record.crashes = record.crashes + 1 end
    if record.body then put_back(record, 'RPUSH', now_ms) end
    leave(claim.id)
  end
  return live, soonest
end

-- Which element comes next: its id where it came back earlier, and its body.
local function choose()
  local id = call('LINDEX', RETRY, 0)
  if id then return id, call('HGET', BODIES, id) end
  return nil, call('LINDEX', QUEUE, from_tail and -1 or 0)
end

local function remove(id)
  if id then
    call('LPOP', RETRY)
    erase(id)
  else
    call(from_tail and 'RPOP' or 'LPOP', QUEUE)
  end
end

-- How long a live claim of the same job may still last, 0 when there is none.
local function owned_for(job)
  local owner = job and call('GET', key('owner', job))
  if not owner or held(owner) == 0 then return 0 end
  local left = call('PTTL', key('lock', owner))
  return left < 0 and 0 or math.max(1, left)
end

local function keep(fence, job)
  call('SET', key('lock', token), fence, 'PX', lease_ms)
  own(job, token, lease_ms)
end

local function take(record, job)
  local fence = next_number(now_ms)
  record.attempts = record.attempts + 1
  write(token, record)
  call('HSET', INFLIGHT, token, fence)
  keep(fence, job)
end

-- True when something was taken. A duplicate of a job in work waits until the owner's lock may have ended.
local function take_next()
  for _ = 1, MAX_DUPLICATES do
    local id, body = choose()
    if not id and not body then return false end
    local record = {body = body, attempts = 0, crashes = 0}
    if id then record = read(id) end
    local job = find_id(body)
    local wait = owned_for(job)
    if wait > 0 then
      hold_back(record, wait, now_ms)
    elseif body then
      take(record, job)
    end
    remove(id)
    if body and wait == 0 then return true end
  end
  return false
end

local function reply(live, soonest)
  local counts = {'NONE', call('LLEN', QUEUE) + call('LLEN', RETRY), live, soonest}
  local fence = held(token)
  if fence == 0 then return counts end
  local record = read(token)
  local job = find_id(record.body)
  local result = job and call('HMGET', key('result', job), 'record', 'delivered') or {false, false}
  counts[1] = 'JOB'
  for _, value in ipairs({record.body, record.attempts, record.crashes, string.format('%.0f', fence)}) do
    table.insert(counts, value)
  end
  counts[9], counts[10] = result[1], result[2]
  return counts
end

-- Whether this token ever held or names anything: then a new claim under it could overwrite or repeat a job.
local function known()
  return call('EXISTS', key('used', token)) + call('HEXISTS', INFLIGHT, token) + call('HEXISTS', BODIES, token) > 0
end

local fence = held(token)
if fence > 0 then
  keep(string.format('%.0f', fence), find_id(call('HGET', BODIES, token)))
  return reply(reap())
end
if known() then return {'STALE'} end
local live, soonest = reap()
if take_next() then live = live + 1 end
return reply(live, soonest)
