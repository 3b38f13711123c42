-- Numbers one retraction, leaves its markers, ends its announcement and publishes it (after rule.lua and log.lua).
--
-- KEYS[1]    the log
-- KEYS[2..]  the addresses of the keys that changed; none in a cluster, where their markers were left before
-- ARGV[1]    the channel
-- ARGV[2]    the id of a new log, should one have to be begun
-- ARGV[3]    the marker
-- ARGV[4]    how long the markers stay, in milliseconds, at least 1
-- ARGV[5]    the body of the message: its kind (1), the history (8), and what is opaque here
-- ARGV[6]    the announcement's id (16), or nothing
-- ARGV[7]    with it what the primary had flushed (8)
--
-- Returns how many markers could not be left; the lineage if the announcement stood here until now, or nothing; what had
-- been announced and was given up; and how many were given up just now. A marker that could not be left is no failure: it only
-- saves fills that would be refused or outdated anyway, it may be evicted at any time, and memory may be short.
--
-- A script that fails does not roll back, so the order matters: first the log as a whole, or nothing where memory is
-- short; last the message. If that fails, its number is taken, and everybody notices the gap and finds it in the log.

local channel, candidate, marker, keep, body, id, flush =
  ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local log = open(KEYS[1], candidate)
local history = string.sub(body, 2, 9)
local abandoned, _, given_up = sweep(KEYS[1], log)
local stood, is_known = false, false
if id ~= '' then
  stood, is_known = finish(log, id)
  note(log, id)
  raise(log, history, flush)
end
log.seq = log.seq + 1
local message = frame(log, history) .. body
save(KEYS[1], log, 'm' .. log.seq % RING, #message <= KEPT and message or '')
if is_known then redis.call('HDEL', KEYS[1], 'a' .. id) end
local failed = 0
for at = 2, #KEYS do
  local outcome = admit(KEYS[at], marker, keep)
  if outcome ~= 0 and outcome ~= 1 then failed = failed + 1 end
end
redis.call('PUBLISH', channel, message)
return { failed, stood and log.lineage or '', abandoned, given_up }
