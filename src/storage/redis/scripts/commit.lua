-- A compare-and-set batch: all writes or none, and only if every expected revision still holds.
-- A script because the comparison and the writes must be one step on the server.
--
-- KEYS  1 generation  2 due index  3 index of tokens  4 index of the registry
--       5.. the expected records, then the records to write (each at most once)
-- ARGV  1 generation  2 now (ms)  3 revision of this batch (8 bytes)  4 number of expectations
--       then the expected revisions (8 bytes each, zero for absent)
--       then for each record to write: its value (empty: delete), its life (ms, 0: no end), its name in the indexes
-- A value begins with revision, expiry (ms) and due instant (ms), 8 bytes big-endian each, 0 for none.
-- Answers 1 applied, 2 applied before (a batch sent again after its answer was lost), 0 conflict.
local ABSENT = string.rep('\0', 8)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('GENERATION the generation of this store is not the one expected')
end
local now = tonumber(ARGV[2])
local revision = ARGV[3]
local expected = tonumber(ARGV[4])
local records = #KEYS - 4
if records == 0 then return 1 end
local stored = redis.call('MGET', unpack(KEYS, 5))

local function revision_of(value)
  if not value then return ABSENT end
  local expires = struct.unpack('>i8', value, 9)
  if expires ~= 0 and expires <= now then return ABSENT end
  return string.sub(value, 1, 8)
end

local function applied_before()
  local puts = 0
  for i = expected + 1, records do
    local value = ARGV[4 + expected + (i - expected - 1) * 3 + 1]
    if value == '' then
      if stored[i] then return false end
    else
      if not stored[i] or string.sub(stored[i], 1, 8) ~= revision then return false end
      puts = puts + 1
    end
  end
  return puts > 0
end

for i = 1, expected do
  if revision_of(stored[i]) ~= ARGV[4 + i] then
    return applied_before() and 2 or 0
  end
end

for i = expected + 1, records do
  local at = 4 + expected + (i - expected - 1) * 3
  local value, life, name = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key = KEYS[4 + i]
  local before = stored[i]
  local due = ABSENT
  if value == '' then
    if before then redis.call('DEL', key) end
  else
    due = string.sub(value, 17, 24)
    if life == '0' then
      redis.call('SET', key, value)
    else
      redis.call('SET', key, value, 'PX', life)
    end
  end
  local due_before = before and string.sub(before, 17, 24) or ABSENT
  if due ~= ABSENT then
    if due ~= due_before then redis.call('ZADD', KEYS[2], struct.unpack('>i8', due), name) end
  elseif due_before ~= ABSENT then
    redis.call('ZREM', KEYS[2], name)
  end
  local kind = string.sub(name, 1, 1)
  local index = kind == 't' and KEYS[3] or kind == 'g' and KEYS[4]
  if index then
    if value == '' then
      redis.call('ZREM', index, name)
    elseif not before then
      redis.call('ZADD', index, 0, name)
    end
  end
end
return 1
