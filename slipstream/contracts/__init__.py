"""What crosses a boundary between services: events, topics, feature views, the bundle's manifest,
REST bodies.

Nothing here imports another part of the project, and nothing here does I/O.
"""
