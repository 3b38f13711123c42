-- The messages after a place in the log (after log.lua).
--
-- KEYS[1]  the log
-- ARGV[1]  its lineage
-- ARGV[2]  the number of the last message that is known, in decimal
--
-- Returns the messages to the end; nothing where this is another log, or some of them are not kept any more.

local record = redis.call('HMGET', KEYS[1], 'id', 'seq')
local id, seq, after = record[1], tonumber(record[2]), tonumber(ARGV[2])
local role, server = this_server()
if not id or not seq or lineage_of(id, role, server) ~= ARGV[1] or seq < after or seq - after > RING then return false end
if seq == after then return {} end
local fields = {}
for at = after + 1, seq do fields[#fields + 1] = 'm' .. at % RING end
local messages = redis.call('HMGET', KEYS[1], unpack(fields))
for _, message in ipairs(messages) do
  if not message or message == '' then return false end
end
return messages
