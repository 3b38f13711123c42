-- Merges what one device of a user holds into the user's record, and returns what all of them hold.
--
-- KEYS[1]  the era
-- KEYS[2]  the user's record
-- ARGV[1]  what comes in: a record (record.rs), or '' to read only
-- ARGV[2]  the record that it was made from, or ''
-- ARGV[3]  how long a record lives, in milliseconds, at least 1
-- ARGV[4]  the id of a new era, should one have to be begun: 8 bytes, not zero
-- ARGV[5]  the id of an era that the caller has reason not to believe, or ''
--
-- Returns the era's id; when it began, in milliseconds; 1 if that is a life ago or more, else 0; 1 if it was begun by this
-- call, else 0; and the record as it is now, '' where there is none, and not looked into where nothing came in.
--
-- An era is a time in which this server has lost nothing. It ends with the server's process (a restart, or a failover to
-- another copy), with its replication history (it was another's replica for a time), and with any key that the server had
-- to evict, which may have been a record. Clients find out what a new era means: here it is only begun.
--
-- Two records are merged part by part, and no part is lowered. What was made from the record that is still there takes
-- its place instead: who made it knew all of it, and may know that some of it is void (a lost write that the user was told
-- of, a position that a crash undid). Where two parts name two lineages, the one that reaches higher stays, and the other is
-- pinned. Of two that name keys, no key is demanded less of than by either: what there is no room for raises the rest.

local MAGIC = 'HWD\1'
local BYTES_MAX = 4278
local CLUSTERS_MAX, PARTS_MAX, PAIRS_MAX = 16, 4, 8
local OVERFLOWN, SUSPECT, FLAGS_MAX = 1, 4, 7
local FORGOTTEN, NAMED = 1, 2
local NONE = string.rep('\0', 8)
local LINEAGES_END = '\0\1' .. string.rep('\0', 6)

-- Whether `a` is above `b`, both big-endian and of one length. Lua would compare by the locale.
local function above(a, b)
  for at = 1, #a do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x > y end
  end
  return false
end

-- Up to where a part reaches.
local function reach(part)
  if part.lineage == NONE then return part.pinned end
  return part.covered
end

-- Nothing is vouched for, or something above the pin.
local function is_sound(part)
  if part.lineage == NONE then return part.covered == NONE end
  return above(LINEAGES_END, part.lineage) and above(part.covered, part.pinned)
end

-- What is known of the part by key, from the byte `at` on; returns where it ends, or nil where it is none.
local function read_named(bytes, at, part)
  if #bytes < at + 8 then return nil end
  local rest, count, keys = string.sub(bytes, at, at + 7), string.byte(bytes, at + 8), {}
  if count == 0 or count > PAIRS_MAX or #bytes < at + 8 + 12 * count then return nil end
  for place = 1, count do
    local from = at + 12 * place - 3
    local pair = { key = string.sub(bytes, from, from + 3), lsn = string.sub(bytes, from + 4, from + 11) }
    if place > 1 and not above(pair.key, keys[place - 1].key) then return nil end
    if not above(pair.lsn, rest) or above(pair.lsn, reach(part)) then return nil end
    keys[place] = pair
  end
  part.rest, part.pairs = rest, keys
  return at + 9 + 12 * count
end

-- What the bytes say, or nil where they are no record of this format.
local function read(bytes)
  if #bytes < 6 or #bytes > BYTES_MAX or string.sub(bytes, 1, 4) ~= MAGIC then return nil end
  local flags, count = string.byte(bytes, 5, 6)
  if flags > FLAGS_MAX or count > CLUSTERS_MAX then return nil end
  local record, at = { flags = flags, clusters = {}, eras = {} }, 7
  for number = 1, count do
    if #bytes < at + 17 then return nil end
    local cluster = { id = string.sub(bytes, at, at + 7), era = string.sub(bytes, at + 8, at + 15), parts = {} }
    local parts, flags = string.byte(bytes, at + 16, at + 17)
    local forgotten = flags % 2
    local last = record.clusters[number - 1]
    if last and not above(cluster.id, last.id) then return nil end
    if parts > PARTS_MAX or flags > FORGOTTEN + NAMED or parts + forgotten == 0 then return nil end
    at, cluster.forgotten, record.eras[cluster.id] = at + 18, forgotten, cluster.era
    for place = 1, parts do
      if #bytes < at + 35 then return nil end
      local part = { order = string.sub(bytes, at, at + 11), pinned = string.sub(bytes, at + 12, at + 19) }
      part.lineage, part.covered = string.sub(bytes, at + 20, at + 27), string.sub(bytes, at + 28, at + 35)
      if not is_sound(part) then return nil end
      local before = cluster.parts[place - 1]
      if before and not above(part.order, before.order) then return nil end
      at, cluster.parts[place] = at + 36, part
    end
    if flags >= NAMED then
      if parts == 0 then return nil end
      at = read_named(bytes, at, cluster.parts[parts])
      if not at then return nil end
    end
    record.clusters[number] = cluster
  end
  if at ~= #bytes + 1 then return nil end
  return record
end

local function write(record)
  local bytes = { MAGIC, string.char(record.flags, #record.clusters) }
  for _, cluster in ipairs(record.clusters) do
    local last = cluster.parts[#cluster.parts]
    local named = last and last.pairs
    local flags = cluster.forgotten + (named and NAMED or 0)
    bytes[#bytes + 1] = cluster.id .. cluster.era .. string.char(#cluster.parts, flags)
    for _, part in ipairs(cluster.parts) do
      bytes[#bytes + 1] = part.order .. part.pinned .. part.lineage .. part.covered
    end
    if named then
      bytes[#bytes + 1] = last.rest .. string.char(#named)
      for _, pair in ipairs(named) do bytes[#bytes + 1] = pair.key .. pair.lsn end
    end
  end
  return table.concat(bytes)
end

-- The cluster `id` of the record, made where there is none; nil where there is no room for it.
local function cluster_of(record, id)
  local at = 1
  while record.clusters[at] and above(id, record.clusters[at].id) do at = at + 1 end
  local found = record.clusters[at]
  if found and found.id == id then return found end
  if #record.clusters == CLUSTERS_MAX then
    record.flags = bit.bor(record.flags, OVERFLOWN)
    return nil
  end
  local cluster = { id = id, era = record.eras[id] or NONE, forgotten = 0, parts = {} }
  table.insert(record.clusters, at, cluster)
  return cluster
end

-- What is known by key of two parts together: the rest and the keys, or nothing.
local function named_of(one, other)
  local rest, of_key, keys, lsns = one.rest or reach(one), {}, {}, {}
  local low = other.rest or reach(other)
  if above(low, rest) then rest = low end
  for _, part in ipairs({ one, other }) do
    for _, pair in ipairs(part.pairs or {}) do
      local known = of_key[pair.key]
      if not known then keys[#keys + 1] = pair.key end
      if not known or above(pair.lsn, known) then of_key[pair.key] = pair.lsn end
    end
  end
  if #keys > PAIRS_MAX then
    for _, lsn in pairs(of_key) do lsns[#lsns + 1] = lsn end
    table.sort(lsns, above)
    if above(lsns[PAIRS_MAX + 1], rest) then rest = lsns[PAIRS_MAX + 1] end
  end
  table.sort(keys, function(a, b) return above(b, a) end)
  local kept = {}
  for _, key in ipairs(keys) do
    if above(of_key[key], rest) then kept[#kept + 1] = { key = key, lsn = of_key[key] } end
  end
  if #kept == 0 then return nil, nil end
  return rest, kept
end

-- Makes `own` cover `other` too. A pin alone belongs to every lineage.
local function cover(own, other)
  local rest, named = named_of(own, other)
  local high, low = own, other
  if above(reach(other) .. other.lineage, reach(own) .. own.lineage) then high, low = other, own end
  local top, pinned, lineage, below = reach(high), high.pinned, high.lineage, low.pinned
  if low.lineage ~= NONE and low.lineage ~= lineage then below = reach(low) end
  if above(below, pinned) then pinned = below end
  if lineage ~= NONE and above(top, pinned) then
    own.pinned, own.lineage, own.covered = pinned, lineage, top
  else
    own.pinned, own.lineage, own.covered = top, NONE, NONE
  end
  own.rest, own.pairs = rest, named
end

local function raise(cluster, part)
  local parts, at = cluster.parts, 1
  while parts[at] and above(part.order, parts[at].order) do at = at + 1 end
  local own = parts[at]
  if own and own.order == part.order then
    return cover(own, part)
  end
  table.insert(parts, at, part)
  if #parts > PARTS_MAX then
    table.remove(parts, 1)
    cluster.forgotten = 1
  end
end

local function merge(record, incoming, era)
  record.flags = bit.bor(record.flags, incoming.flags)
  for _, theirs in ipairs(incoming.clusters) do
    local own = cluster_of(record, theirs.id)
    if own then
      -- Who brings it answers for all that was written until then; but only for as long as nothing was lost since.
      if theirs.era == era then own.era = era end
      own.forgotten = math.max(own.forgotten, theirs.forgotten)
      for _, part in ipairs(theirs.parts) do raise(own, part) end
    end
  end
end

-- What stands behind `name` in a section of INFO. Found without patterns, which would take longer than all the rest.
local function told(info, name)
  local at = string.find(info, '\n' .. name .. ':', 1, true)
  if not at then return '' end
  local first = at + #name + 2
  return string.sub(info, first, (string.find(info, '\r', first, true) or 0) - 1)
end

-- Which process this is, with which history, and how much it had to evict; nil where it does not tell.
local function server(replication)
  local run, history = told(redis.call('INFO', 'server'), 'run_id'), told(replication, 'master_replid')
  local evicted = told(redis.call('INFO', 'stats'), 'evicted_keys')
  if run == '' or history == '' or evicted == '' then return nil end
  return run .. ' ' .. history .. ' ' .. evicted
end

-- The era as it is now.
local function present_era(key, server, candidate, disbelieved)
  local kept = redis.call('HMGET', key, 'id', 'made', 'server')
  local id, made = kept[1], kept[2]
  local usable = id and #id == 8 and made and #made <= 15 and string.match(made, '^%d+$')
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if usable and kept[3] == server and id ~= disbelieved then
    return { id = id, made = tonumber(made), now = now, begun = 0 }
  end
  redis.call('HSET', key, 'id', candidate, 'made', string.format('%.0f', now), 'server', server)
  return { id = candidate, made = now, now = now, begun = 1 }
end

local incoming, from, life, candidate, disbelieved = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local replication = redis.call('INFO', 'replication')
-- What a replica holds is as old as its primary left it, and it takes no writes that could show it.
if told(replication, 'role') ~= 'master' then return redis.error_reply('READONLY this server is a replica') end
local identity = server(replication)
if not identity then return redis.error_reply('ERR INFO does not tell run_id, master_replid and evicted_keys') end
local era = present_era(KEYS[1], identity, candidate, disbelieved)
-- One byte more than a record has, whatever lies there.
local stored = redis.call('GETRANGE', KEYS[2], 0, BYTES_MAX)
if incoming ~= '' then
  local new = read(incoming)
  if not new then return redis.error_reply('ERR what comes in is no record') end
  local record = { flags = 0, clusters = {}, eras = {} }
  if stored ~= '' then
    record = read(stored)
    if not record then
      -- Whatever it said is lost, and this says so for as long as the record lives.
      record = { flags = SUSPECT, clusters = {}, eras = {} }
    elseif stored == from then
      record.flags, record.clusters = bit.band(record.flags, SUSPECT), {}
    end
  end
  merge(record, new, era.id)
  stored = write(record)
  redis.call('SET', KEYS[2], stored, 'PX', life)
end
local old = era.now - era.made >= tonumber(life) and 1 or 0
return { era.id, era.made, old, era.begun, stored }
