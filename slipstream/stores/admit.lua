-- Judge what came in: was it there before, and is it more than allowed? One call for many requests.
-- KEYS: gap, then the keys that were acknowledged, then in the order of the plan those that it asks about.
-- ARGV: ms an id is kept, ms of a gap to begin (0: none), how many were acknowledged,
--       plan, ms between events and burst for a write key, the same two for a visitor, which log is written to, then events of each
--       request with a limit.
-- The plan has one letter for each thing to judge. A request: R (none of its own limit), K (its write key's limit, one key).
-- A message: n (nothing to ask), i (an id), v (a visitor's limit), b (both: id, visitor).
-- Returns a letter for each letter of the plan, then for each refused request the ms to wait.
--   request: + or - (refused: its messages are not looked at)
--   message: f (first), p (pending: an attempt is under way or ended without an answer), d (done), r (above the limit),
--            . (nothing was asked, or the request is refused)
local kept, begin_gap, marks, plan = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
-- What was taken into a log that is gone (the embedded broker keeps nothing) may be gone, too: nobody knows.
local done = 'd' .. ARGV[9]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
if begin_gap > 0 then
    redis.call('SET', KEYS[1], '1', 'PX', begin_gap)
end
-- Within a gap nobody knows what was forgotten.
local unseen = redis.call('EXISTS', KEYS[1]) == 1 and 'p' or 'f'
local at = 2
for _ = 1, marks do
    redis.call('SET', KEYS[at], done, 'PX', kept)
    at = at + 1
end

-- The generic cell rate algorithm: the key holds when all that was taken will be paid for. A request of more than the burst is taken
-- when nothing is owed. Returns 0, or the ms to wait.
local function take(key, events, interval, burst)
    local paid = tonumber(redis.call('GET', key) or '0')
    if paid < now then
        paid = now
    end
    local wait = paid - now + interval * math.min(events, burst) - interval * burst
    if wait > 0.001 then
        return math.ceil(wait)
    end
    paid = paid + interval * events
    redis.call('SET', key, string.format('%.3f', paid), 'PX', math.ceil(paid - now) + 1)
    return 0
end

local function seen(key)
    local held = redis.call('SET', key, 'p', 'NX', 'GET', 'PX', kept)
    if not held then
        return unseen
    end
    return held == done and 'd' or 'p'
end

local answers, waits, request, refused = {}, {}, 10, false
for i = 1, #plan do
    local letter, answer = string.sub(plan, i, i), '.'
    if letter == 'R' then
        refused, answer = false, '+'
    elseif letter == 'K' then
        local wait = take(KEYS[at], tonumber(ARGV[request]), tonumber(ARGV[5]), tonumber(ARGV[6]))
        at, request, refused, answer = at + 1, request + 1, wait > 0, '+'
        if refused then
            answer = '-'
            waits[#waits + 1] = wait
        end
    else
        local id, visitor
        if letter == 'i' or letter == 'b' then
            id, at = KEYS[at], at + 1
        end
        if letter == 'v' or letter == 'b' then
            visitor, at = KEYS[at], at + 1
        end
        if not refused then
            if visitor and not (id and redis.call('GET', id) == done)
                and take(visitor, 1, tonumber(ARGV[7]), tonumber(ARGV[8])) > 0 then
                answer = 'r'
            elseif id then
                answer = seen(id)
            end
        end
    end
    answers[i] = answer
end
return {table.concat(answers), unpack(waits)}
