"""Times of the catalogue's items, in ms since the epoch: when one appeared, when one expires."""

import math
import time
from typing import Any

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.times import parse_iso


def appeared_at(record: CatalogRecord) -> float:
    """The time (ms) at which an item appeared: that of its first record, or of an earlier
    publication.
    """
    appeared = record.timestamp if record.appeared_at is None else record.appeared_at
    published = milliseconds(record.attributes.get("published_at"))
    return published if 0 <= published < appeared else appeared


def milliseconds(moment: Any) -> float:
    """A time in ms; infinity for none, and for a value that is no time."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return float(moment)
    try:
        return parse_iso(moment)
    except (TypeError, ValueError):
        return math.inf


def wall_clock() -> float:
    """The time now."""
    return time.time() * 1000
