-- Publishes a heartbeat with the log's place (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  the channel
-- ARGV[2]  the id of a new log, should one have to be begun
-- ARGV[3]  the sender's generation: 8 bytes, big-endian
-- ARGV[4]  the body of the message, opaque
--
-- Raises the log's generation to the sender's and returns it.
--
-- The generation is written even where it is the same: a server that may not be written to (a replica, a primary without
-- enough of them, one without memory) would still publish, to its own subscribers, and hearing that would prove nothing
-- about retractions, which go elsewhere.

local channel, candidate, generation, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local log = open(KEYS[1], candidate)
if greater(generation, log.gen) then log.gen = generation end
redis.call('HSET', KEYS[1], 'gen', log.gen)
redis.call('PUBLISH', channel, frame(log) .. body)
return log.gen
