-- Keep a catalogue entry if it is newer than the one kept, as `CatalogPlace.replaces` says.
-- What a page says of a user does not replace what a server has said. Nothing from before an erasure
-- is kept.
-- An entry keeps the time at which its item appeared: of the first record since a deletion.
-- KEYS: entry.  ARGV: record, timestamp, source, offset, ms to live (0: for ever), '1' if it came
-- from a page, '1' if it may be replaced by what a page says, '1' if a client told the timestamp,
-- the time at which the item appeared by this record ('' for a deletion, and for a user), source
-- and offset of the whole record that patches of a user were merged into ('' for others).
-- Returns 1 when kept, 0 when a newer one is kept, 2 when a page may not replace the one kept.
local held = redis.call('HMGET', KEYS[1],
    'timestamp', 'source', 'offset', 'open', 'client', 'erased_before', 'appeared')
if held[6] then
    local patched = ARGV[10] ~= ''
    local ends = cjson.decode(held[6])[patched and ARGV[10] or ARGV[3]]
    if ends and tonumber(patched and ARGV[11] or ARGV[4]) < ends then
        return 0
    end
end
if held[1] then
    if ARGV[6] == '1' and held[4] ~= '1' then
        return 2
    end
    local before, now = tonumber(held[1]), tonumber(ARGV[2])
    local same_log = held[2] == ARGV[3]
    if before ~= now and (not same_log or (held[5] == '1' and ARGV[8] == '1')) then
        if before > now then
            return 0
        end
    elseif same_log and tonumber(held[3]) >= tonumber(ARGV[4]) then
        return 0
    end
end
local appeared = ARGV[9]
if appeared ~= '' and held[7] and held[7] ~= '' and tonumber(held[7]) < tonumber(appeared) then
    appeared = held[7]
end
redis.call('HSET', KEYS[1],
    'record', ARGV[1], 'timestamp', ARGV[2], 'source', ARGV[3], 'offset', ARGV[4],
    'open', ARGV[7], 'client', ARGV[8], 'appeared', appeared)
if ARGV[10] ~= '' then
    redis.call('HSET', KEYS[1], 'base_source', ARGV[10], 'base_offset', ARGV[11])
else
    redis.call('HDEL', KEYS[1], 'base_source', 'base_offset')
end
if ARGV[5] == '0' then
    redis.call('PERSIST', KEYS[1])
else
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
return 1
