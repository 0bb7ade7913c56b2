-- The first of some records, as many as are worth one answer: whole ones until their bytes reach a bound,
-- one at least. A script because only the server knows how long they are before it sends them.
--
-- KEYS  1 generation  2.. the records
-- ARGV  1 generation  2 the bound (bytes)  3 'head' for no more of each than stands in front of its bytes
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('GENERATION the generation of this store is not the one expected')
end
local bound, values, bytes = tonumber(ARGV[2]), {}, 0
for i = 2, #KEYS do
  local value
  if ARGV[3] == 'head' then
    value = redis.call('GETRANGE', KEYS[i], 0, 23)
  else
    value = redis.call('GET', KEYS[i]) or ''
  end
  values[i - 1] = value
  bytes = bytes + #value
  if bytes >= bound then break end
end
return values
