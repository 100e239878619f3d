-- Delete a state if it still has the revision that was read.
-- KEYS: state.  ARGV: revision read.
if redis.call('GETRANGE', KEYS[1], 0, 7) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
