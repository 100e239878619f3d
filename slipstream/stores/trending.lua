-- Add masses to the trending scores, and replace the state that says which records they hold, if it
-- still has the revision that was read.
-- KEYS: state, scores (one hash tag).
-- ARGV: revision read ('' for none), new state, items to keep, '1' to begin anew, then item, log2
--       mass, item, log2 mass, ...
-- Returns 1 when added, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
if ARGV[4] == '1' then
    redis.call('DEL', KEYS[2])
end
for i = 5, #ARGV, 2 do
    local added = tonumber(ARGV[i + 1])
    local held = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i]) or nil)
    local mass = added
    if held then
        local high, low = math.max(held, added), math.min(held, added)
        mass = high + math.log(1 + 2 ^ (low - high)) / math.log(2)
    end
    redis.call('ZADD', KEYS[2], string.format('%.17g', mass), ARGV[i])
end
-- Trimmed with some slack, so that not every batch pays for it.
local keep = tonumber(ARGV[3])
if redis.call('ZCARD', KEYS[2]) > keep * 1.1 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -keep - 1)
end
return 1
