-- ARGV: tokens whose holder is known to be dead. Their leases end now; the next claim takes the jobs back.
-- Reply: how many had one.
local ended = 0
for _, token in ipairs(ARGV) do
  ended = ended + call('DEL', key('lock', token))
end
if ended > 0 then announce() end
return ended
