"""Figures that sizes are derived from, each with the way in which it was measured."""

from typing import Final, NamedTuple


class Figure(NamedTuple):
    """A measured figure.

    Attributes:
        value: The figure.
        unit: Its unit.
        what: The thing measured.
        command: Command that measures it, or how else it was measured.
        measured: Commit and day of the measurement.
    """

    value: float
    unit: str
    what: str
    command: str
    measured: str


INGESTION: Final = Figure(
    2_900,
    "events/s",
    "single events that one ingestion takes",
    "slipstream bench ingestion",
    "09df3cf, 27 November 2026",
)
FEATURES: Final = Figure(
    9_977,
    "events/s",
    "events that one features counts",
    "slipstream bench scaling",
    "37d7c4b, 28 November 2026, with other work",
)
REDIS: Final = Figure(
    13.8,
    "us/event",
    "time of Redis' one thread",
    "slipstream bench scaling",
    "37d7c4b, 28 November 2026, with other work",
)
STATE: Final = Figure(
    816,
    "bytes",
    "Redis for a visitor or an item, at most",
    "slipstream bench features",
    "86e586d, 25 November 2026",
)
SERVING: Final = Figure(
    1_450,
    "lists/s",
    "lists of one serving process",
    "slipstream bench serving",
    "4739dd2, 28 November 2026",
)
EVENT_BYTES: Final = Figure(
    367,
    "bytes",
    "an event on its topic",
    "mean JSON of bench scaling's events, by hand",
    "37d7c4b, 28 November 2026",
)
SLATE_BYTES: Final = Figure(
    2_000,
    "bytes",
    "a slate of ten on its topic, with circumstances",
    "an estimate: 0.4 to 2.7 KB of it are docs/replay.md's",
    "543bbde, 28 November 2026",
)
LAKE_BYTES: Final = Figure(
    60,
    "bytes",
    "an event in the lake",
    "size of bench scaling's Parquet files, by hand",
    "37d7c4b, 28 November 2026",
)
EVENT_IN_MONITORING: Final = Figure(
    43,
    "us/event",
    "time of monitoring's one consumer",
    "a monitoring on SQLite that reads a full topic, by hand",
    "37d7c4b, 28 November 2026, with other work",
)
SLATE_IN_MONITORING: Final = Figure(
    60,
    "us/slate",
    "the same, of a slate",
    "a monitoring on SQLite that reads a full topic, by hand",
    "37d7c4b, 28 November 2026, with other work",
)
TRAINING_S: Final = Figure(
    102,
    "us/event",
    "time of a run, profile fast, on two cores",
    "slipstream evaluate, a simulated shop of 10,000,000 events",
    "cd346e0, 24 November 2026",
)
TRAINING_BYTES: Final = Figure(
    480, "bytes/event", "memory of that run", "the same", "cd346e0, 24 November 2026"
)
FIGURES: Final = (
    INGESTION,
    FEATURES,
    REDIS,
    STATE,
    SERVING,
    EVENT_BYTES,
    SLATE_BYTES,
    LAKE_BYTES,
    EVENT_IN_MONITORING,
    SLATE_IN_MONITORING,
    TRAINING_S,
    TRAINING_BYTES,
)
