-- Write something on a node that has met this writer, so that the connection can wait for it.
-- KEYS: a key of the node's own.
return redis.call('INCR', KEYS[1])
