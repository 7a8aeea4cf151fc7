-- ARGV: token, the entry's header: one line of JSON. Reply: 1, or 0 when the claim is not held.
-- An entry is the header, a line break and the raw body, so that the body need not be text.
local MAX_DEAD = 1000
local token = ARGV[1]
if held(token) == 0 then return 0 end
local body = call('HGET', BODIES, token)
call('LPUSH', DEAD, ARGV[2] .. '\n' .. body)
call('LTRIM', DEAD, 0, MAX_DEAD - 1)
disown(body, token)
leave(token)
return 1
