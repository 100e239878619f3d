-- Read checkpoints, on a server that has met this writer.
-- KEYS: checkpoint, ...
-- Returns the values; false for none.
return redis.call('MGET', unpack(KEYS))
