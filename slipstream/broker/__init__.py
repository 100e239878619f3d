"""Kafka: produce with acknowledgement, and consume at least once.

`producer` and `consumer` are the entrances. `loop` and `watch` run a consumer inside a service, and
`follower` keeps the newest states of a compacted topic. Behind them, `delivery` hands records over,
`records` turns bytes into records and back, `log_changes` notices recreated topics, new leaders and
records that are gone, and `standing` measures lag. `topics` and `log_ends` ask the broker. `kafka`
holds the connection, the handshake, the errors and the arguments of the library's clients.

Only this package imports kafka-python (and `bench`, which measures it). Only `client` and
`consumer_client` use the library's private parts.
"""
