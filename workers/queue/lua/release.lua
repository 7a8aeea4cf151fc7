-- ARGV: token, "1" when the attempt counts, the caller's epoch in ms. Reply: 1, or 0 when the claim is not held.
local token = ARGV[1]
if held(token) == 0 then return 0 end
local record = read(token)
if ARGV[2] ~= '1' then record.attempts = record.attempts - 1 end
put_back(record, 'LPUSH', tonumber(ARGV[3]))
disown(record.body, token)
leave(token)
announce()
return 1
