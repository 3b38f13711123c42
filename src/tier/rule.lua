-- The Admit rule on stored bytes: whether `incoming` takes the place of `present`, which is false where nothing is.
--
-- The same as `replaces` in envelope.rs, which says why; a property test holds the two together. Positions are compared
-- in halves of 32 bits: a Lua number is a double and cannot hold 64, and comparing strings would follow the locale.

local COMPARED_BYTES = 20
local ENTRY_BYTES_MIN = 76
local MAGIC = 'HWE\1'
local MARKER = 3
local HAS_UPPER = 1
local FLAGS_MAX = 3

-- The compared part of an envelope, or nil where it is none of this format.
local function header(bytes)
  if #bytes < COMPARED_BYTES or string.sub(bytes, 1, 4) ~= MAGIC then return nil end
  local kind, flags, zero, timeline, high, low = struct.unpack('>BBI2I4I4I4', bytes, 5)
  if kind < 1 or kind > MARKER or zero ~= 0 then return nil end
  local marker = kind == MARKER
  if marker and (flags ~= 0 or #bytes ~= COMPARED_BYTES) then return nil end
  if not marker and (flags > FLAGS_MAX or #bytes < ENTRY_BYTES_MIN) then return nil end
  return { marker = marker, upper = flags % 2 == HAS_UPPER, timeline = timeline, high = high, low = low }
end

-- Negative, zero or positive, as the tag of `a` is below, at or above that of `b`.
local function compare(a, b)
  if a.high ~= b.high then return a.high - b.high end
  return a.low - b.low
end

local function replaces(present, incoming)
  local new = header(incoming)
  if not new then return false end
  local old = present and header(present)
  if not old or old.timeline ~= new.timeline then return true end
  local order = compare(new, old)
  if new.marker then return order > 0 end
  if old.marker then return order >= 0 end
  return order > 0 or (order == 0 and new.upper and not old.upper)
end

-- Puts `envelope` at `key` for `life` milliseconds if the rule lets it. Returns 1 if it did, 0 if not, -1 where the key
-- holds a value of another type, which is somebody else's and stays, or the error of the write, such as OOM.
local function admit(key, envelope, life)
  local present = redis.pcall('GET', key)
  if type(present) == 'table' then
    if string.sub(present.err, 1, 9) == 'WRONGTYPE' then return -1 end
    return present
  end
  if not replaces(present, envelope) then return 0 end
  local written = redis.pcall('SET', key, envelope, 'PX', life)
  if written.err then return written end
  return 1
end
