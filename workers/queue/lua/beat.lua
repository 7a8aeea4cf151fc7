-- ARGV: lease in ms, the end to take from, then for each claim: token, job id or "", progress as JSON or "".
-- Reply: the tokens that hold nothing any more, the tokens whose jobs were withdrawn, how many jobs wait, and since when
-- the first of them does. Of a job whose result is remembered there is no progress: its terminal status may be out.
local PROGRESS_S = 600
local lost, cancelled = {}, {}
for i = 3, #ARGV, 3 do
  local token, job, progress = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local fence = held(token)
  if fence == 0 then
    table.insert(lost, token)
  else
    call('SET', key('lock', token), string.format('%.0f', fence), 'PX', ARGV[1])
    if job ~= '' then
      own(job, token, ARGV[1])
      if call('EXISTS', 'cancel:' .. job) == 1 then table.insert(cancelled, token) end
      if progress ~= '' and call('EXISTS', key('result', job)) == 0 then
        call('SET', 'progress:' .. job, progress, 'EX', PROGRESS_S)
      end
    end
  end
end
return {lost, cancelled, sight(ARGV[2] == 'tail')}
