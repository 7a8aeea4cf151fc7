-- ARGV: body, the push command of the producers' end. Reply: the length of the producers' list.
local length = call(ARGV[2], QUEUE, ARGV[1])
announce()
return length
