-- Add masses to the scores of the lists of demand, and replace the state that says which records
-- they hold, if it still has the revision that was read.
-- KEYS: state, scores of each list (one hash tag).
-- ARGV: revision read ('' for none), new state, items to keep in a list, number of lists to begin
--       anew, from the first on; then for each item its id and its log2 mass in each list ('' for
--       none).
-- Returns 1 when added, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2])
local keep, lists = tonumber(ARGV[3]), #KEYS - 1
for list = 1, tonumber(ARGV[4]) do
    redis.call('DEL', KEYS[1 + list])
end
for list = 1, lists do
    local scores = KEYS[1 + list]
    for i = 5, #ARGV, 1 + lists do
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
    -- Trimmed with some slack, so that not every batch pays for it.
    if redis.call('ZCARD', scores) > keep * 1.1 then
        redis.call('ZREMRANGEBYRANK', scores, 0, -keep - 1)
    end
end
return 1
