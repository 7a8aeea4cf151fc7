-- ARGV: job id, body, the push command of the taking end: a lost job is older than all that wait.
-- Reply: 1, or 0 when the job was put into the queue before.
if not remember_restored(ARGV[1]) then return 0 end
call(ARGV[3], QUEUE, ARGV[2])
announce()
return 1
