-- ARGV: how the entry's header begins, the push command of the producers' end. Reply: 1, or 0 when there is none.
-- The job is made anew: with its old result it would only be reported again.
local head = ARGV[1]
for _, entry in ipairs(call('LRANGE', DEAD, 0, -1)) do
  if string.sub(entry, 1, #head) == head then
    local body = string.sub(entry, string.find(entry, '\n', 1, true) + 1)
    call(ARGV[2], QUEUE, body)
    call('LREM', DEAD, 1, entry)
    local job = find_id(body)
    if job then
      call('DEL', key('result', job))
      remember_restored(job)
    end
    announce()
    return 1
  end
end
return 0
