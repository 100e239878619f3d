"""Limits of what `slipstream doctor` reads, so that a large stack is looked at in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is read.

    Attributes:
        events: Rows of the lake's newest interactions.
        event_bytes: Their bytes in memory.
        items: Entries of the catalogue.
        letters: Dead letters.
        seconds: Time for each of these.
    """

    events: int = 200_000
    event_bytes: int = 128 * 2**20
    items: int = 20_000
    letters: int = 20_000
    seconds: float = 10.0
