-- Judge the messages of many requests in one call: is a message a repeat, and are the rates kept?
-- KEYS: the gap's key, the ids that were acknowledged, then the keys of the plan in its order.
-- ARGV: 1 ms an id is kept, 2 ms of a gap to begin (0: none), 3 how many ids were acknowledged,
--       4 the plan, 5 the log that messages are written to, from 6 for each rate of the plan the
--       records to charge, ms between records, and the burst; for each link of the plan the
--       visitor, the most visitors, and the ms for which they count, then the rate of new links;
--       for each page's message the new visitors that an address may bring (0: any number), the ms
--       for which they count, the ms for which ids of others are kept, the number of its records,
--       and for each the item ('' for none) and its weight.
-- The plan has a code for each request, followed by a code for each of its messages, before which
-- a link may stand, and behind which a page's mark may.
-- Returns a code for each request and message of the plan, as one string, a code for each record
-- of a page, as another one, then the ms to wait of each refused request.

-- The codes are explained in admission_store.py, under the same names.
local REQUEST = 'R'
local RATED_REQUEST = 'K'
local NOTHING = 'n'
local ID = 'i'
local VISITOR = 'v'
local ID_AND_VISITOR = 'b'
local LINK = 'l'
local PAGE = 'g'
local ACCEPTED = '+'
local REFUSED = '-'
local FIRST = 'f'
local PENDING = 'p'
local DONE = 'd'
local LIMITED = 'r'
local TOO_MANY = 'm'
local TOO_FAST = 's'
local UNCHECKED = '.'
local UNLEARNED = 'u'
-- Of the new visitors of a key, the share that one address may bring where that is more.
local SHARE = 0.01
-- Most items of a visitor that count, each with the greatest weight so far.
local MOST_ITEMS = 200

local kept, begin_gap, marks, plan = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
-- An id is kept as PENDING, or as DONE with the log that took the message. When that log is gone
-- (the embedded broker keeps nothing), the message may be gone, too, and counts as PENDING.
local done = DONE .. ARGV[5]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
if begin_gap > 0 then
    redis.call('SET', KEYS[1], '1', 'PX', begin_gap)
end
-- Within a gap, an id that is not here may have been forgotten.
local unseen = redis.call('EXISTS', KEYS[1]) == 1 and PENDING or FIRST
local at = 2
for _ = 1, marks do
    if not redis.call('SET', KEYS[at], done, 'XX', 'KEEPTTL') then
        redis.call('SET', KEYS[at], done, 'PX', kept)
    end
    at = at + 1
end

-- The generic cell rate algorithm: the key holds the moment at which everything taken is paid for.
-- What has more records than the burst is taken when nothing is owed. Returns 0, or the ms to wait.
local function take(key, charge)
    local records, interval, burst = tonumber(ARGV[charge]), tonumber(ARGV[charge + 1]),
        tonumber(ARGV[charge + 2])
    local paid = tonumber(redis.call('GET', key) or '0')
    if paid < now then
        paid = now
    end
    local wait = paid - now + interval * math.min(records, burst) - interval * burst
    if wait > 0.001 then
        return math.ceil(wait)
    end
    paid = paid + interval * records
    redis.call('SET', key, string.format('%.3f', paid), 'PX', math.ceil(paid - now) + 1)
    return 0
end

local function seen(key)
    local held = redis.call('SET', key, PENDING, 'NX', 'GET', 'PX', kept)
    if not held then
        return unseen
    end
    return held == done and DONE or PENDING
end

-- The visitors of a user are a set that ends an hour after its first one. Returns nil where the
-- user may have this one, else why not.
local function refusal_of_link(users, rate, charge)
    local visitor, most, kept_ms = ARGV[charge], tonumber(ARGV[charge + 1]), ARGV[charge + 2]
    if redis.call('SISMEMBER', users, visitor) == 1 then
        return nil
    end
    local others = redis.call('SCARD', users)
    if others >= most then
        return TOO_MANY
    elseif take(rate, charge + 3) > 0 then
        return TOO_FAST
    end
    redis.call('SADD', users, visitor)
    if others == 0 then
        redis.call('PEXPIRE', users, kept_ms)
    end
    return nil
end

local function counted(key, kept_ms)
    if redis.call('INCR', key) == 1 then
        redis.call('PEXPIRE', key, kept_ms)
    end
end

-- Whether a page's visitor is one that is learned from: it was before, or its address may bring
-- another one. The visitor is a hash of its items with their weights, which ends with the count.
local function is_learned(visitor, network, source, most, kept_ms)
    if redis.call('EXISTS', visitor) == 1 then
        return true
    end
    if most > 0 then
        local theirs = tonumber(redis.call('GET', network) or '0')
        local all = tonumber(redis.call('GET', source) or '0')
        if theirs >= math.max(most, SHARE * all) then
            return false
        end
        counted(network, kept_ms)
        counted(source, kept_ms)
    end
    redis.call('HSET', visitor, '', 0)
    redis.call('PEXPIRE', visitor, kept_ms)
    return true
end

-- What a record adds to its item's demand: as much as it weighs more than any record before.
local function gain(visitor, item, weight)
    if weight == 0 then
        return 0
    end
    local held = redis.call('HGET', visitor, item)
    if not held and redis.call('HLEN', visitor) > MOST_ITEMS then
        return UNLEARNED
    end
    if weight <= tonumber(held or '0') then
        return 0
    end
    redis.call('HSET', visitor, item, weight)
    return weight - tonumber(held or '0')
end

local answers, waits, charge, refused, link_refused = {}, {}, 6, false, nil
local learned, taken, last_id = {}, false, nil
for i = 1, #plan do
    local code, answer = string.sub(plan, i, i), UNCHECKED
    if code == REQUEST then
        refused, answer = false, ACCEPTED
    elseif code == RATED_REQUEST then
        local wait = take(KEYS[at], charge)
        at, charge, refused, answer = at + 1, charge + 3, wait > 0, ACCEPTED
        if refused then
            answer = REFUSED
            waits[#waits + 1] = wait
        end
    elseif code == LINK then
        link_refused = not refused and refusal_of_link(KEYS[at], KEYS[at + 1], charge) or nil
        at, charge, answer = at + 2, charge + 6, ''
    elseif code == PAGE then
        local kept_ms, short_ms, records = ARGV[charge + 1], ARGV[charge + 2], tonumber(ARGV[charge + 3])
        local learns = taken
            and is_learned(KEYS[at], KEYS[at + 1], KEYS[at + 2], tonumber(ARGV[charge]), kept_ms)
        if taken and not learns and last_id then
            redis.call('PEXPIRE', last_id, math.min(tonumber(kept), tonumber(short_ms)))
        end
        for record = charge + 4, charge + 2 + 2 * records, 2 do
            learned[#learned + 1] = learns
                and gain(KEYS[at], ARGV[record], tonumber(ARGV[record + 1])) or UNLEARNED
        end
        at, charge, answer = at + 3, charge + 4 + 2 * records, ''
    elseif code ~= NOTHING or link_refused then
        local id, visitor, owed
        if code == ID or code == ID_AND_VISITOR then
            id, at = KEYS[at], at + 1
        end
        if code == VISITOR or code == ID_AND_VISITOR then
            visitor, owed, at, charge = KEYS[at], charge, at + 1, charge + 3
        end
        if link_refused then
            answer, link_refused = link_refused, nil
        elseif not refused then
            if visitor and not (id and redis.call('GET', id) == done)
                and take(visitor, owed) > 0 then
                answer = LIMITED
            elseif id then
                answer = seen(id)
            end
        end
        last_id, taken = id, answer == FIRST or answer == PENDING or (answer == UNCHECKED and not refused)
    elseif code == NOTHING then
        last_id, taken = nil, not refused
    end
    answers[i] = answer
end
return {table.concat(answers), table.concat(learned), unpack(waits)}
