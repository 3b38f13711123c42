-- Takes an announcement back: nothing was committed (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  the id of a new log, should one have to be begun
-- ARGV[2]  the announcement's id (16)

local id = ARGV[2]
local log = open(KEYS[1], ARGV[1])
local _, is_known = finish(log, id)
note(log, id)
save(KEYS[1], log)
if is_known then redis.call('HDEL', KEYS[1], 'a' .. id) end
return 0
