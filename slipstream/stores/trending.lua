-- Add masses to the scores of the lists of demand, and note who was active, and replace the state that
-- says which records both hold, if it still has the revision that was read.
-- KEYS: state, active visitors, scores of each list (one hash tag).
-- ARGV: revision read ('' for none), new state, members to keep in a list, number of lists to
--       restart, from the first on; time before which no visitor is active, time to live of the
--       active visitors in ms, number of visitors; for each the time and the id; then for each item its id
--       and its log2 mass in each list ('' for none).
-- Returns 1 when added, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
local keep, active, lists = tonumber(ARGV[3]), KEYS[2], #KEYS - 2

-- Trimmed with some slack, so that not every batch pays for it.
local function trim(members)
    if redis.call('ZCARD', members) > keep * 1.1 then
        redis.call('ZREMRANGEBYRANK', members, 0, -keep - 1)
    end
end

local items = 8 + 2 * tonumber(ARGV[7])
if items > 8 then
    for i = 8, items - 1, 1000 do  -- as many as fit on the stack of Lua
        redis.call('ZADD', active, 'GT', unpack(ARGV, i, math.min(i + 999, items - 1)))
    end
    redis.call('ZREMRANGEBYSCORE', active, '-inf', '(' .. ARGV[5])
    redis.call('PEXPIRE', active, ARGV[6])
    trim(active)
end
for list = 1, tonumber(ARGV[4]) do
    redis.call('DEL', KEYS[2 + list])
end
for list = 1, lists do
    local scores = KEYS[2 + list]
    for i = items, #ARGV, 1 + lists do
        local mass = tonumber(ARGV[i + list])
        if mass then
            local held = tonumber(redis.call('ZSCORE', scores, ARGV[i]) or nil)
            if held then
                local high, low = math.max(held, mass), math.min(held, mass)
                mass = high + math.log(1 + 2 ^ (low - high)) / math.log(2)
            end
            redis.call('ZADD', scores, string.format('%.17g', mass), ARGV[i])
        end
    end
    trim(scores)
end
return 1
