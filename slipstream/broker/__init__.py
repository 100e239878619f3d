"""Kafka: produce with acknowledgement, and consume at least once.

`producer` and `consumer` are the entrances, and `loop` and `watch` run a consumer inside a service.
Behind them, `delivery` hands records over, `incarnations` notices topics that were recreated,
`assignment` knows the topics' partitions, `standing` measures lag, and `codec` and `batch` turn
bytes into records. `topics` and `groups` ask the broker about both, in an `admin` session. `kafka`
holds the connection, the handshake and the errors; `arguments` and `partitioning` configure the
library's clients, and `record_batch` encodes records for its producer.

Only this package imports kafka-python (and `bench`, which measures it). Only `client` and
`consumer_client` use the library's private parts.
"""
