-- Publishes a heartbeat with the log's place (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  the channel
-- ARGV[2]  the id of a new log, should one have to be begun
-- ARGV[3]  the sender's generation (8)
-- ARGV[4]  the body of the message: its kind (1), the history (8), and what is opaque here
-- ARGV[5]  what the primary had flushed (8)
--
-- Raises the log's generation to the sender's and returns it; what had been announced and was given up; how many
-- announcements are open; in how many milliseconds the first of them is given up; and how many were given up just now.
--
-- The log is written even where nothing changed: a server that may not be written to (a replica, a primary without
-- enough of them, one without memory) would still publish, to its own subscribers, and hearing that would prove nothing
-- about retractions, which go elsewhere.

local channel, candidate, generation, body, flush = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local log = open(KEYS[1], candidate)
local history = string.sub(body, 2, 9)
local abandoned, first, given_up = sweep(KEYS[1], log)
if greater(generation, log.gen) then log.gen = generation end
raise(log, history, flush)
save(KEYS[1], log)
redis.call('PUBLISH', channel, frame(log, history) .. body)
return { log.gen, abandoned, #log.p / PENDING_BYTES, first, given_up }
