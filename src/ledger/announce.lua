-- Tells that a commit may come (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  the id of a new log, should one have to be begun
-- ARGV[2]  the announcement's id (16)
-- ARGV[3]  the history (8)
-- ARGV[4]  the position that the commit will be above (8)
-- ARGV[5]  how long it is waited for, in milliseconds
-- ARGV[6]  what it will retract, opaque, or '' where that is long
-- ARGV[7]  '1' where only more is told of what stands, else ''
--
-- Returns the lineage; nothing where it was settled before it came, another stands under its id, too many are open, what is to
-- stand does not, or this server cannot be told from others.

local candidate, id, history, above, announced = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local lease = math.min(tonumber(ARGV[5]), U32 - 1)
local log = open(KEYS[1], candidate)
local stands = without(log.p, id, PENDING_BYTES) ~= nil
if ARGV[7] == '1' then
  -- Its place on the list stays, and its end, since the list is not written.
  if stands and announced ~= '' then redis.call('HSET', KEYS[1], 'a' .. id, announced) end
  return stands and log.lineage or ''
end
local is_full = #log.p >= PENDING * PENDING_BYTES
if not log.is_known or stands or is_noted(log, id) or is_full then return '' end
log.p = log.p .. id .. history .. above .. number(now_ms() + lease) .. struct.pack('>I4', lease)
if announced ~= '' then save(KEYS[1], log, 'a' .. id, announced) else save(KEYS[1], log) end
return log.lineage
