-- Replace a state if it still has the revision that was read.
-- KEYS: state.  ARGV: revision read ('' for none), new value, ms to live.
-- Returns 1 when replaced, else 0.
if redis.call('GETRANGE', KEYS[1], 0, 7) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
