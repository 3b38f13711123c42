-- The log's own record: a hash without a life of its own.
--
-- id   8 bytes from a client's secure random source, made together with the sequence and lost with it: whoever finds
--      another id knows that the log was deleted, evicted or wiped
-- seq  how many retractions were numbered, in decimal
-- gen  8 bytes, big-endian: how often history was replaced, as far as anybody said

local U32 = 4294967296

-- Whether these are the bytes of a 64-bit number.
local function is_number(bytes)
  return type(bytes) == 'string' and #bytes == 8
end

local function greater(a, b)
  local ahigh, alow = struct.unpack('>I4I4', a)
  local bhigh, blow = struct.unpack('>I4I4', b)
  return ahigh > bhigh or (ahigh == bhigh and alow > blow)
end

-- Reads the record and begins a new one, with the id `candidate`, where there is none or none that can be used. A key of
-- another type raises the error, before anything has been written.
local function open(key, candidate)
  local record = redis.call('HMGET', key, 'id', 'seq', 'gen')
  local id, seq, gen = record[1], record[2], record[3]
  -- Fifteen digits are exact in a double.
  local usable = is_number(id) and type(seq) == 'string' and #seq <= 15 and string.match(seq, '^%d+$')
  if not usable then
    id, seq = candidate, '0'
    redis.call('HSET', key, 'id', id, 'seq', seq)
  end
  if not is_number(gen) then gen = string.rep('\0', 8) end
  return { id = id, seq = tonumber(seq), gen = gen }
end

-- The 28 bytes in front of every message (message.rs).
local function frame(log)
  return 'HWB\1' .. log.id .. struct.pack('>I4I4', math.floor(log.seq / U32), log.seq % U32) .. log.gen
end
