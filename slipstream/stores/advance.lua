-- Move checkpoints on, behind the effects of the records before them.
-- KEYS: checkpoint, ...
-- ARGV: ms to live; then for each key the least that it has to hold (-1: nothing), and the new next
--       offset.
-- Returns 1 when done; 0, and moves none, when one holds less: Redis has lost writes.
local held = {}
for i, key in ipairs(KEYS) do
    held[i] = tonumber(redis.call('GET', key) or nil) or -1
    if held[i] < tonumber(ARGV[2 * i]) then
        return 0
    end
end
for i, key in ipairs(KEYS) do
    local reached = ARGV[2 * i + 1]
    if held[i] < tonumber(reached) then
        redis.call('SET', key, reached, 'PX', ARGV[1])
    else
        redis.call('PEXPIRE', key, ARGV[1])
    end
end
return 1
