-- ARGV: tokens whose holder is known to be dead. Their leases end now; the next claim takes the jobs back.
-- Reply: how many were held.
local ended = 0
for _, token in ipairs(ARGV) do
  if held(token) > 0 then ended = ended + call('DEL', key('lock', token)) end
end
return ended
