"""The live stream: events fold into the online store and the lake.

`materializer` reads batches, `screening` drops what must not count, `online_effects` writes Redis,
`history.archive` writes the lake, and `commits` commits offsets after both, finds logs that lost
records, and tells what Redis lost. `erasures` erases people.
"""
