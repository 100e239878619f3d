"""The live stream: events fold into the online store and the lake.

`materializer` reads batches, `screening` and `repeats` drop what must not count, `online_effects`
writes Redis, `archive` writes the lake, and `commits` commits offsets after both. `people` merges
visitors into users. `erasures`, `erasure_marking` and `erasure_notices` erase them. `rollbacks`
reads again what Redis lost, `log_lineages` finds logs that lost records, and `redis_upkeep` checks
the server's memory and settings.
"""
