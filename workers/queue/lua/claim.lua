-- ARGV: token, lease in ms, the caller's epoch in ms, the end to take from ("tail" or "head"), type -> rank as JSON.
-- Reply: {"STALE"}, or {"NONE" | "PAUSED" | "JOB", waiting, since when the first of them does in ms or -1, in flight, ms to
-- the next expiry or -1, withdrawn jobs that were dropped}, followed, for a job, by body, attempt, crashes, fence, remembered record or nil, "1" when delivered.
local token, lease_ms, now_ms, from_tail = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == 'tail'
local MANY = 500 -- claims in flight: to look through more takes longer than a millisecond
local REAP_MS = 1000
local MAX_PASSED = 10 -- copies and withdrawn jobs that one claim passes over

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

-- Among many claims the dead are looked for once a second, which delays nobody by more than that.
local function reap_in_time()
  local claims = call('HLEN', INFLIGHT)
  if claims > MANY and not call('SET', REAPED, '1', 'NX', 'PX', REAP_MS) then return claims, -1 end
  return reap()
end

-- What comes next, one item at each call: what came back earlier, then the producers' list.
local ordered
local function following()
  local id = call('LINDEX', RETRY, 0)
  if id then
    local item = read(id)
    item.id = id
    return item
  end
  ordered = ordered or in_order(decoded(ARGV[5]) or {}, now_ms, from_tail)
  return table.remove(ordered, 1)
end

local function remove(item)
  if item.id then
    call('LPOP', RETRY)
    erase(item.id)
  else
    pull(item, now_ms, from_tail)
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

local function take(item, job)
  local fence = next_number(now_ms)
  item.attempts = item.attempts + 1
  write(token, item)
  call('HSET', INFLIGHT, token, fence)
  keep(fence, job)
  if item.user then call('SET', key('served', item.user), fence, 'PX', SERVED_MS) end
end

-- Takes the next job, if there is one. A copy of a job in work waits until the owner's lock may have ended; a withdrawn
-- job is dropped. Returns the withdrawn ones.
local function take_next()
  local withdrawn = {}
  for _ = 1, MAX_PASSED do
    local item = following()
    if not item then break end
    local job = find_id(item.body)
    local wait = owned_for(job)
    if job and call('EXISTS', 'cancel:' .. job) == 1 then
      table.insert(withdrawn, job)
      call('DEL', 'progress:' .. job)
    elseif wait > 0 then
      hold_back(item, wait, now_ms)
    elseif item.body then
      take(item, job)
    end
    remove(item)
    if held(token) > 0 then break end
  end
  return withdrawn
end

local function reply(status, live, soonest, withdrawn)
  local waiting, since = sight(from_tail)
  local counts = {status, waiting, since, live, soonest, withdrawn}
  local fence = held(token)
  if fence == 0 then return counts end
  local record = read(token)
  local job = find_id(record.body)
  local result = job and call('HMGET', key('result', job), 'record', 'delivered') or {false, false}
  counts[1] = 'JOB'
  for _, value in ipairs({record.body, record.attempts, record.crashes, string.format('%.0f', fence)}) do
    table.insert(counts, value)
  end
  counts[11], counts[12] = result[1], result[2]
  return counts
end

-- Whether this token ever held or names anything: then a new claim under it could overwrite or repeat a job.
local function known()
  return call('EXISTS', key('used', token)) + call('HEXISTS', INFLIGHT, token) + call('HEXISTS', BODIES, token) > 0
end

local fence = held(token)
if fence > 0 then
  keep(string.format('%.0f', fence), find_id(call('HGET', BODIES, token)))
  local live, soonest = reap_in_time()
  return reply('NONE', live, soonest, {})
end
if known() then return {'STALE'} end
local live, soonest = reap_in_time()
if call('EXISTS', PAUSED) == 1 then return reply('PAUSED', live, soonest, {}) end
local withdrawn = take_next()
return reply('NONE', live + (held(token) > 0 and 1 or 0), soonest, withdrawn)
