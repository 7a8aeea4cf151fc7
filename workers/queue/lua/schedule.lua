-- Joined before claim. Orders the elements at the taking end of the producers' list. Whatever an element holds, nothing
-- here fails: one bad element would otherwise stop the queue for all.
local WINDOW = 50
local MAX_LEAD_MS = 600000 -- nobody overtakes who has waited this much longer
local ORDINARY = 1 -- the rank of a type that the caller does not rank
local MAX_AGE_MS = 604800000 -- whoever says to be older is not believed
local SERVED_MS = 600000 -- how long a user's turn is remembered
local SINCE_MS = 3600000

local function number_or(value, default)
  if type(value) ~= 'number' or value ~= value or math.abs(value) == math.huge then return default end
  return value
end

-- What an element says of itself. A value of another type than agreed counts as not said.
local function described(body, place, ranks)
  local job = #body <= MAX_READ and unwrapped(body) or {}
  local kind, user = job.type or job.job_type or job.jobType, job.user_id or job.userId
  return {
    body = body,
    attempts = 0,
    crashes = 0,
    place = place,
    priority = number_or(job.priority, 0),
    rank = number_or(type(kind) == 'string' and ranks[kind], ORDINARY),
    user = type(user) == 'string' and #user > 0 and #user <= MAX_ID and user or nil,
    made = epoch_ms(job.created_at or job.createdAt),
  }
end

-- The elements nearest to the taking end, the nearest first.
local function window(ranks, from_tail)
  local bodies = from_tail and call('LRANGE', QUEUE, -WINDOW, -1) or call('LRANGE', QUEUE, 0, WINDOW - 1)
  local items = {}
  for place = 1, #bodies do
    items[place] = described(bodies[from_tail and #bodies + 1 - place or place], place, ranks)
  end
  return items
end

-- The fence under which each item's user was served last, 0 when that is long ago.
local function recall(items)
  local keys = {}
  for place, item in ipairs(items) do keys[place] = key('served', item.user or '') end
  local fences = #keys > 0 and call('MGET', unpack(keys)) or {}
  for place, item in ipairs(items) do item.served = number_or(tonumber(fences[place] or '0'), 0) end
end

-- The first item has waited longest whatever it says. Without a bound a stream of better ones would pass it for ever.
local function without_leaders(items, now_ms)
  local oldest = tonumber(call('GET', SINCE) or now_ms) or now_ms
  for _, item in ipairs(items) do
    local age = now_ms - (item.made or now_ms)
    if age < 0 or age > MAX_AGE_MS then age = 0 end
    item.made = now_ms - age
    oldest = math.min(oldest, item.made)
  end
  local kept = {}
  for _, item in ipairs(items) do
    if item.place == 1 or item.made - oldest <= MAX_LEAD_MS then table.insert(kept, item) end
  end
  return kept
end

local function comes_before(a, b)
  if a.priority ~= b.priority then return a.priority > b.priority end
  if a.rank ~= b.rank then return a.rank < b.rank end
  if a.served ~= b.served then return a.served < b.served end
  return a.place < b.place
end

-- The items in the order in which they should be served: by priority, rank, turn of the user, and age.
local function in_order(ranks, now_ms, from_tail)
  local items = without_leaders(window(ranks, from_tail), now_ms)
  recall(items)
  table.sort(items, comes_before)
  return items
end

-- Takes an item out of the list, and remembers since when the one at its end is being passed over.
local function pull(item, now_ms, from_tail)
  call('LREM', QUEUE, from_tail and -1 or 1, item.body)
  if item.place == 1 then call('DEL', SINCE)
  else call('SET', SINCE, string.format('%.0f', now_ms), 'NX', 'PX', SINCE_MS) end
end
