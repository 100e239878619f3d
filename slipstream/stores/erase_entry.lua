-- Erase a user's entry, unless it stands behind the ends of the erasure. One that patches have
-- changed stands where its last whole record does, since it has what that said.
-- KEYS: entry.  ARGV: ends as JSON (source to next offset), ms to live of what remembers them.
-- Returns 1 when erased, else 0.
local ends = cjson.decode(ARGV[1])
local held = redis.call('HMGET', KEYS[1],
    'source', 'offset', 'erased_before', 'base_source', 'base_offset')
if held[3] then
    for source, offset in pairs(cjson.decode(held[3])) do
        ends[source] = math.max(offset, ends[source] or 0)
    end
end
local source, offset = held[4] or held[1], held[5] or held[2]
local later = source and ends[source] and tonumber(offset) >= ends[source]
if not later then
    redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], 'erased_before', cjson.encode(ends))
if not later then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return later and 0 or 1
