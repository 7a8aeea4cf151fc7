-- ARGV: token, job id, the record as JSON. Reply: 1, or 0 when the claim is not held.
local RESULT_S = 86400
if held(ARGV[1]) == 0 then return 0 end
local result = key('result', ARGV[2])
call('HSET', result, 'record', ARGV[3], 'delivered', '0')
call('EXPIRE', result, RESULT_S)
call('DEL', 'progress:' .. ARGV[2])
return 1
