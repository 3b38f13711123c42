-- Numbers one retraction, leaves its markers and publishes it (after rule.lua and log.lua).
--
-- KEYS[1]    the log
-- KEYS[2..]  the addresses of the keys that changed
-- ARGV[1]    the channel
-- ARGV[2]    the id of a new log, should one have to be begun
-- ARGV[3]    the marker
-- ARGV[4]    how long the markers stay, in milliseconds, at least 1
-- ARGV[5]    the body of the message, opaque
--
-- Returns how many markers could not be left. That is no failure: a marker only saves fills that would be refused or
-- outdated anyway, it may be evicted at any time, and memory may be short.
--
-- A script that fails does not roll back, so the order matters: first what can fail with nothing done (the record has
-- another type, memory is short), last the message. If only the message fails, its number is taken, and everybody
-- notices the gap with the next heartbeat.

local channel, candidate, marker, keep, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local log = open(KEYS[1], candidate)
log.seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local failed = 0
for at = 2, #KEYS do
  local outcome = admit(KEYS[at], marker, keep)
  if outcome ~= 0 and outcome ~= 1 then failed = failed + 1 end
end
redis.call('PUBLISH', channel, frame(log) .. body)
return failed
