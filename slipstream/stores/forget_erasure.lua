-- Forget the ends of an erasure; an entry from behind them stays.
-- KEYS: entry.
redis.call('HDEL', KEYS[1], 'erased_before')
return 1
