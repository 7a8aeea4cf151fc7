-- ARGV: token, job id or "". Reply: 1, or 0 when the claim is not held. A remembered result stays until its own end.
local token, result = ARGV[1], key('result', ARGV[2])
if held(token) == 0 then return 0 end
if call('EXISTS', result) == 1 then call('HSET', result, 'delivered', '1') end
disown(call('HGET', BODIES, token), token)
leave(token)
return 1
