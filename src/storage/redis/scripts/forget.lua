-- Takes a name out of an index when its record is gone or no longer asks to be there: what the
-- server's own expiry leaves behind. A script because the record may come back between looking and removing.
--
-- KEYS  1 the index  2 the record
-- ARGV  1 the name in the index  2 'due' when the record must have a due instant to stay
local value = redis.call('GET', KEYS[2])
if not value or (ARGV[2] == 'due' and string.sub(value, 17, 24) == string.rep('\0', 8)) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
