-- ARGV: who asks, for how many ms nobody else shall, by how many ms a lost job is older than all that wait, the end to
-- take from, then for each open job: id, epoch in ms.
-- Reply: the ids of those that are nowhere here. None when another leads, or when it cannot be told.
local margin_ms, from_tail = tonumber(ARGV[3]), ARGV[4] == 'tail'
if not call('SET', LEADER, ARGV[1], 'NX', 'PX', ARGV[2]) then return {} end

-- Since when the waiting jobs wait: the list is too long to be searched, but its oldest element is at its end.
local function oldest_waiting()
  local body = call('LINDEX', QUEUE, from_tail and -1 or 0)
  if not body then return math.huge end
  local job = #body <= MAX_BODY and unwrapped(body) or {}
  return epoch_ms(job.created_at or job.createdAt) or 0
end

local function stored()
  local known = {}
  for _, body in ipairs(call('HVALS', BODIES)) do known[find_id(body) or ''] = true end
  for _, entry in ipairs(call('LRANGE', DEAD, 0, -1)) do
    known[find_id(string.sub(entry, (string.find(entry, '\n', 1, true) or 0) + 1)) or ''] = true
  end
  return known
end

local limit, suspects = oldest_waiting() - margin_ms, {}
for i = 5, #ARGV, 2 do
  local job = ARGV[i]
  local traces = call('EXISTS', key('result', job), key('owner', job), key('restored', job), 'cancel:' .. job)
  if traces == 0 and tonumber(ARGV[i + 1]) < limit then table.insert(suspects, job) end
end
local known, missing = #suspects > 0 and stored() or {}, {}
for _, job in ipairs(suspects) do
  if not known[job] then table.insert(missing, job) end
end
return missing
