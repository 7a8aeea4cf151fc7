-- ARGV: an epoch in seconds. Takes entries that were given up before it from the end of the dead list, the oldest first.
-- Reply: how many. A header says when in digits, so that no script needs to read it whole.
local before, pruned = tonumber(ARGV[1]), 0
while true do
  local oldest = call('LINDEX', DEAD, -1)
  local at = oldest and tonumber(string.match(string.match(oldest, '^[^\n]*'), '[^\\]"at":%s*(%d+)') or '')
  if not at or at >= before then return pruned end
  call('RPOP', DEAD)
  pruned = pruned + 1
end
