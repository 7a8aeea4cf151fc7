-- Reply: 1, or 0 when the queue was not paused.
local paused = call('DEL', PAUSED)
announce()
return paused
