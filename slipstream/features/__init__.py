"""Features: pure functions that fold interactions into states and read features off a state.

The same functions run in the stream, when the online store is rebuilt from the lake, and for
point-in-time training rows. Event time decides: the order in which events arrive does not change a
result. No I/O here.
"""
