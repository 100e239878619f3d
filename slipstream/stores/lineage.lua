-- Note what is about to be applied of partitions, and find out whose log has parted from it.
-- KEYS: lineage, ...
-- ARGV: for each key the number of its spans, and of each span the leader epoch, the first offset
--       and the last one.
-- Returns for each key the epochs at which its log parted, and how many of them are new.
-- A lineage is "<epoch> <offset>": the furthest that was applied; then the epochs at which the log
-- parted. In one log a later epoch has higher offsets. One that begins at an offset which was
-- applied of an earlier epoch is the proof that the earlier record is not in the log any more.
local at, answers = 1, {}
for i, key in ipairs(KEYS) do
    local epoch, offset, parted, found = -1, -1, {}, 0
    for number in (redis.call('GET', key) or ''):gmatch('%S+') do
        parted[#parted + 1] = tonumber(number)
    end
    if #parted > 0 then
        epoch, offset = table.remove(parted, 1), table.remove(parted, 1)
    end
    local spans = tonumber(ARGV[at])
    for span = at + 1, at + 3 * spans, 3 do
        local of, first, last = tonumber(ARGV[span]), tonumber(ARGV[span + 1]), tonumber(ARGV[span + 2])
        if of > epoch then
            if epoch >= 0 and first <= offset then
                parted[#parted + 1] = of
                found = found + 1
            end
            epoch, offset = of, last
        elseif of == epoch and last > offset then
            offset = last
        end
    end
    at = at + 1 + 3 * spans
    local words = {string.format('%.0f %.0f', epoch, offset)}
    for _, number in ipairs(parted) do
        words[#words + 1] = string.format('%.0f', number)
    end
    if spans > 0 then
        redis.call('SET', key, table.concat(words, ' '))
    end
    answers[i] = {found, parted}
end
return answers
