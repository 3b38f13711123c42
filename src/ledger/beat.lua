-- Publishes a heartbeat with the log's place (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  the channel
-- ARGV[2]  the id of a new log, should one have to be begun
-- ARGV[3]  the sender's generation: 8 bytes, big-endian
-- ARGV[4]  the body of the message, opaque
--
-- Raises the log's generation to the sender's and returns it. Writes nothing else, so that an idle bus costs no
-- replication.

local channel, candidate, generation, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local log = open(KEYS[1], candidate)
if greater(generation, log.gen) then
  log.gen = generation
  redis.call('HSET', KEYS[1], 'gen', generation)
end
redis.call('PUBLISH', channel, frame(log) .. body)
return log.gen
