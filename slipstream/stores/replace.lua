-- Replace a state if it still has the revision that was read.
-- KEYS: state.  ARGV: revision read ('' for none), new value, ms to live, and where that is short, so
-- that a longer life which the state has goes on, '1'.
-- Returns 1 when replaced, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
local lives = ARGV[3]
if ARGV[4] then
    lives = math.max(tonumber(lives), redis.call('PTTL', KEYS[1]))
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', lives)
return 1
