-- A compare-and-set batch: all writes or none, and only if every expected revision still holds.
-- A script because the comparison and the writes must be one step on the server.
--
-- KEYS  1 generation  2 due index  3 index of tokens  4 index of the registry
--       5.. the records, each once
-- ARGV  1 generation  2 now (ms)  3 revision of this batch (8 bytes)
--       then for each record: the revision expected (8 bytes, zero for absent; empty: any),
--       what to do ('put', 'delete', or '' for nothing), its value, its life (ms, 0: no end),
--       its name in the indexes
-- A value begins with revision, expiry (ms) and due instant (ms), 8 bytes big-endian each, 0 for none.
-- No more than that is read of what is stored: a whole value would be copied twice.
-- Answers 1 applied, 2 applied before (a batch sent again after its answer was lost), 0 conflict.
-- What is answered as applied has always written something: a WAIT that follows on a connection that has
-- written nothing would be satisfied at once, whoever has what is answered.
local ABSENT = string.rep('\0', 8)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('GENERATION the generation of this store is not the one expected')
end
local now = tonumber(ARGV[2])
local revision = ARGV[3]
local records = #KEYS - 4
local function barrier() redis.call('SET', KEYS[1], ARGV[1]) end

-- What stands in front of each record's value; empty for absent.
local stored = {}
for i = 1, records do stored[i] = redis.call('GETRANGE', KEYS[4 + i], 0, 23) end

local function holds(i, expected)
  local head = stored[i]
  if head ~= '' then
    local expires = string.sub(head, 9, 16)
    if expires == ABSENT or struct.unpack('>i8', expires) > now then
      return string.sub(head, 1, 8) == expected
    end
  end
  return expected == ABSENT
end

local function applied_before()
  local puts = 0
  for i = 1, records do
    local verb = ARGV[5 * i]
    if verb == 'delete' then
      if stored[i] ~= '' then return false end
    elseif verb == 'put' then
      if string.sub(stored[i], 1, 8) ~= revision then return false end
      puts = puts + 1
    end
  end
  return puts > 0
end

for i = 1, records do
  local expected = ARGV[5 * i - 1]
  if expected ~= '' and not holds(i, expected) then
    if not applied_before() then return 0 end
    barrier()
    return 2
  end
end

local writes = 0
for i = 1, records do
  local at = 5 * i
  local verb = ARGV[at]
  if verb ~= '' then
    writes = writes + 1
    local key, name, before = KEYS[4 + i], ARGV[at + 3], stored[i]
    local due = ABSENT
    if verb == 'delete' then
      if before ~= '' then redis.call('DEL', key) end
    else
      local value, life = ARGV[at + 1], ARGV[at + 2]
      due = string.sub(value, 17, 24)
      if life == '0' then
        redis.call('SET', key, value)
      else
        redis.call('SET', key, value, 'PX', life)
      end
    end
    local due_before = before ~= '' and string.sub(before, 17, 24) or ABSENT
    if due ~= ABSENT then
      if due ~= due_before then redis.call('ZADD', KEYS[2], struct.unpack('>i8', due), name) end
    elseif due_before ~= ABSENT then
      redis.call('ZREM', KEYS[2], name)
    end
    local kind = string.sub(name, 1, 1)
    local index = kind == 't' and KEYS[3] or kind == 'g' and KEYS[4]
    if index then
      if verb == 'delete' then
        redis.call('ZREM', index, name)
      elseif before == '' then
        redis.call('ZADD', index, 0, name)
      end
    end
  end
end
if records > 0 and writes == 0 then barrier() end
return 1
