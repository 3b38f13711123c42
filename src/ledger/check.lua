-- Uses every right that the scripts of the log need, so that a missing one is found at the start (after log.lua). Begins a log where
-- there is none, and changes nothing else.
--
-- KEYS[1]  the log
-- KEYS[2]  an address at which nothing can lie
-- ARGV[1]  the channel
-- ARGV[2]  the id of a new log, should one have to be begun
-- ARGV[3]  the body of a heartbeat: its kind (1), the history (8), and what is opaque here

local log = open(KEYS[1], ARGV[2])
sweep(KEYS[1], { p = '', g = '' })
redis.call('HSET', KEYS[1], 'id', log.id)
redis.call('HGET', KEYS[1], 'a')
redis.call('HDEL', KEYS[1], 'a')
redis.call('DEL', KEYS[2])
redis.call('GET', KEYS[2])
redis.call('SET', KEYS[2], '', 'XX', 'PX', 1)
redis.call('PUBLISH', ARGV[1], frame(log, string.sub(ARGV[3], 2, 9)) .. ARGV[3])
return 0
