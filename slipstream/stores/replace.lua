-- Replace a state if it still has the revision that was read.
-- KEYS: state.  ARGV: revision read ('' for none), new value, ms to live; a life that the state has
-- ends no earlier.
-- Returns 1 when replaced, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', math.max(tonumber(ARGV[3]), redis.call('PTTL', KEYS[1])))
return 1
