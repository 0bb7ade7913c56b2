-- Requests against a rate limit shared by all replicas: GCRA, its one number being the theoretical
-- arrival time (µs) of the next request at the sustained rate. A script because deciding and
-- moving that time must be one step; on the server's clock, so that replicas agree.
--
-- KEYS  1 the limit's record
-- ARGV  1 emission interval (µs)  2 burst, in requests  3 requests wanted
-- Answers {requests allowed, requests left in the burst, µs until one would be allowed when none is}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local tolerance = interval * tonumber(ARGV[2])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
-- Further ahead than any burst: the clock was set back.
if arrival - now > tolerance + interval then arrival = now end
-- A double has a grain of a quarter of a microsecond at such times.
local allowed = math.min(tonumber(ARGV[3]), math.floor((tolerance + 1 - (arrival - now)) / interval))
if allowed < 1 then
  return {0, 0, math.ceil(arrival + interval - tolerance - now)}
end
local following = arrival + allowed * interval
redis.call('SET', KEYS[1], string.format('%.0f', following), 'PX', math.ceil((following - now) / 1000))
return {allowed, math.floor((tolerance - (following - now)) / interval), 0}
