-- The log of retractions: one hash without a life of its own, so that all of it is lost or nothing.
--
-- id   8 bytes from a client's secure random source, and when the log was begun by this server's clock (8): made with the log and
--      lost with it. A client that was cloned draws the same bytes again, and not at the same time
-- r    the replication id of the server that wrote it last
-- seq  how many retractions were numbered, in decimal
-- gen  8 bytes: the generation of the present history, the highest that anybody said
-- w    the watermark of each history, the last 8 that were raised: history (8), position (8)
-- p    the commits that were announced and may still come, at most 256: id (16), history (8), the position that the commit
--      will be above (8), until when they are waited for in milliseconds of this server's clock (8), and how long that was
--      in all (4)
-- g    the last 256 of those that were given up, to be told once more, should whoever was told have died of it: id (16), when (8)
-- n    the last 64 announcements that were settled or withdrawn, and are refused should they still arrive: id (16)
-- a…   what was announced under this id, if it is not long: for whoever finds that its writer is gone
-- m…   the last 1024 messages, by their number modulo 1024, empty where one is long: for whoever missed them
--
-- All numbers in bytes are big-endian. They are compared in halves, since a Lua number is a double; those that are
-- written in decimal, and times, stay below 2^53.

local U32 = 4294967296
local WATERMARKS, NOTES, RING, KEPT = 8, 64, 1024, 4096
local PENDING, PENDING_BYTES = 256, 44
local GIVEN_UP, GIVEN_UP_BYTES, AGAIN_MS = 256, 24, 10000
local ZERO = string.rep('\0', 8)

-- Whether these are the bytes of a 64-bit number.
local function is_number(bytes)
  return type(bytes) == 'string' and #bytes == 8
end

local function greater(a, b)
  local ahigh, alow = struct.unpack('>I4I4', a)
  local bhigh, blow = struct.unpack('>I4I4', b)
  return ahigh > bhigh or (ahigh == bhigh and alow > blow)
end

local function number(value)
  return struct.pack('>I4I4', math.floor(value / U32), value % U32)
end

local function value(bytes)
  local high, low = struct.unpack('>I4I4', bytes)
  return high * U32 + low
end

local function records(bytes, size)
  if type(bytes) ~= 'string' or #bytes % size ~= 0 then return '' end
  return bytes
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- This server's role, and its replication id, by which it can be told from every other. A restart and a failover change that, and
-- what the log held before may be missing then; a replica has that of its master.
local function this_server()
  local info = redis.call('INFO', 'replication')
  return string.match(info, 'role:(%w+)') or '', string.match(info, 'master_replid:(%x+)') or ''
end

-- Which log this is: the id, on a server of this role with this replication id.
local function lineage_of(id, role, server)
  local hash = '0000' .. string.sub(redis.sha1hex(role .. server .. id), 1, 12)
  local lineage = string.gsub(hash, '%x%x', function(byte) return string.char(tonumber(byte, 16)) end)
  return lineage
end

-- Reads the log and begins a new one, with an id from `candidate`, where there is none or none that can be used. A key of
-- another type raises the error, before anything has been written.
--
-- One that another server wrote last gets a new id. With its slot of a cluster a log may come back to where it was, as an older
-- copy of what it was elsewhere; under the name that it had here, who heard it before would not notice.
local function open(key, candidate)
  local record = redis.call('HMGET', key, 'id', 'seq', 'gen', 'w', 'p', 'n', 'g', 'r')
  local id, seq, gen = record[1], record[2], record[3]
  -- Fifteen digits are exact in a double.
  local usable = type(id) == 'string' and #id == 16 and type(seq) == 'string' and #seq <= 15 and string.match(seq, '^%d+$')
  local log = { id = id, gen = gen, w = records(record[4], 16), p = records(record[5], PENDING_BYTES), n = records(record[6], 16) }
  log.g = records(record[7], GIVEN_UP_BYTES)
  local role, server = this_server()
  if not usable then
    redis.call('DEL', key)
    log, seq = { id = candidate .. number(now_ms()), gen = gen, w = '', p = '', n = '', g = '' }, '0'
    redis.call('HSET', key, 'id', log.id, 'seq', seq, 'r', server)
  elseif role == 'master' and record[8] ~= server then
    log.id = candidate .. number(now_ms())
    redis.call('HSET', key, 'id', log.id, 'r', server)
  end
  if not is_number(log.gen) then log.gen = ZERO end
  log.seq = tonumber(seq)
  log.lineage, log.is_known = lineage_of(log.id, role, server), role == 'master' and string.find(server, '[^0]') ~= nil
  return log
end

-- Writes it back, in one step, which fails as a whole where memory is short.
local function save(key, log, ...)
  local seq = string.format('%.0f', log.seq)
  redis.call('HSET', key, 'seq', seq, 'gen', log.gen, 'w', log.w, 'p', log.p, 'n', log.n, 'g', log.g, ...)
end

local function watermark(log, history)
  for at = 1, #log.w, 16 do
    if string.sub(log.w, at, at + 7) == history then return string.sub(log.w, at + 8, at + 15) end
  end
  return ZERO
end

-- Raises the watermark of a history as far as is flushed, and nobody who announced a commit may still make it.
local function raise(log, history, flush)
  local top = flush
  for at = 1, #log.p, PENDING_BYTES do
    local above = string.sub(log.p, at + 24, at + 31)
    if string.sub(log.p, at + 16, at + 23) == history and greater(top, above) then top = above end
  end
  local before, others = watermark(log, history), ''
  if greater(before, top) then top = before end
  for at = 1, #log.w, 16 do
    if string.sub(log.w, at, at + 7) ~= history then others = others .. string.sub(log.w, at, at + 15) end
  end
  log.w = string.sub(others, -16 * (WATERMARKS - 1)) .. history .. top
end

-- A list without the record that begins with this id; nothing where there is none.
local function without(list, id, size)
  for at = 1, #list, size do
    if string.sub(list, at, at + 15) == id then return string.sub(list, 1, at - 1) .. string.sub(list, at + size) end
  end
end

-- Takes an announcement off the list; whether it was there.
local function remove(log, id)
  local rest = without(log.p, id, PENDING_BYTES)
  log.p = rest or log.p
  return rest ~= nil
end

-- The same, also where it was given up: whether it was still waited for, and whether what it announced is to be deleted now.
local function finish(log, id)
  local stood, rest = remove(log, id), without(log.g, id, GIVEN_UP_BYTES)
  log.g = rest or log.g
  return stood, stood or rest ~= nil
end

-- Refuses this announcement, should it still come.
local function note(log, id)
  log.n = string.sub(log.n .. id, -16 * NOTES)
end

local function is_noted(log, id)
  for at = 1, #log.n, 16 do
    if string.sub(log.n, at, at + 15) == id then return true end
  end
  return false
end

-- Whether a time is past that was set no more than `longest` milliseconds ahead. A clock may have been set back since then, or
-- be that of another server: what lies further ahead was set by another clock, and is past.
local function is_past(left, longest)
  return left <= 0 or left > longest
end

-- Gives up what was waited for long enough. Returns what had been announced, now and once more some time after; in how many
-- milliseconds the first of what is left is given up; and how many were given up.
local function sweep(key, log)
  local now, first, over, abandoned, later = now_ms(), 0, {}, {}, ''
  for at = 1, #log.p, PENDING_BYTES do
    local left, lease = value(string.sub(log.p, at + 32, at + 39)) - now, struct.unpack('>I4', log.p, at + 40)
    if is_past(left, lease) then
      over[#over + 1] = string.sub(log.p, at, at + 15)
    elseif first == 0 or left < first then
      first = left
    end
  end
  for at = 1, #log.g, GIVEN_UP_BYTES do
    local id = string.sub(log.g, at, at + 15)
    local is_due = is_past(value(string.sub(log.g, at + 16, at + 23)) - now, AGAIN_MS)
    if is_due then abandoned[#abandoned + 1] = redis.call('HGET', key, 'a' .. id) or nil end
    if is_due or (#log.g - at + 1) / GIVEN_UP_BYTES + #over > GIVEN_UP then
      redis.call('HDEL', key, 'a' .. id)
    else
      later = later .. string.sub(log.g, at, at + GIVEN_UP_BYTES - 1)
    end
  end
  for _, id in ipairs(over) do
    remove(log, id)
    local announced = redis.call('HGET', key, 'a' .. id)
    if announced then
      abandoned[#abandoned + 1] = announced
      later = later .. id .. number(now + AGAIN_MS)
    end
  end
  log.g = later
  return abandoned, first, #over
end

-- The 36 bytes in front of every message (message.rs).
local function frame(log, history)
  return 'HWB\2' .. log.lineage .. number(log.seq) .. log.gen .. watermark(log, history)
end
