-- ARGV: token, job id, the record as JSON, what takes the body's place or "". Reply: 1, or 0 when the claim is not held.
local RESULT_S = 86400
if held(ARGV[1]) == 0 then return 0 end
local result = key('result', ARGV[2])
call('HSET', result, 'record', ARGV[3], 'delivered', '0')
call('EXPIRE', result, RESULT_S)
if ARGV[4] ~= '' then call('HSET', BODIES, ARGV[1], ARGV[4]) end
call('DEL', 'progress:' .. ARGV[2])
return 1
