-- Erase a user's entry, unless it stands behind the ends of the erasure.
-- KEYS: entry.  ARGV: ends as JSON (source to next offset), ms to live of what remembers them.
-- Returns 1 when erased, else 0.
local ends = cjson.decode(ARGV[1])
local held = redis.call('HMGET', KEYS[1], 'source', 'offset', 'erased_before')
if held[3] then
    for source, offset in pairs(cjson.decode(held[3])) do
        ends[source] = math.max(offset, ends[source] or 0)
    end
end
local later = held[1] and ends[held[1]] and tonumber(held[2]) >= ends[held[1]]
if not later then
    redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'erased_before', cjson.encode(ends))
if not later then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return later and 0 or 1
