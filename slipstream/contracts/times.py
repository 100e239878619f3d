"""Times: integer milliseconds since the epoch, in UTC, as every record and state keeps them."""

import math
import time
from datetime import UTC, datetime
from typing import Final

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS


def now_ms() -> int:
    """The time now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def parse_iso(text: str) -> int:
    """The time in ms that an ISO 8601 text names, in UTC unless it has a zone.

    Raises:
        ValueError: The text is no ISO 8601 time, or none that a clock can show.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return math.floor(moment.timestamp() * 1000 + 0.5)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error


def format_time(millis: int) -> str:
    """A time for people, to the second, in UTC."""
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_duration(seconds: float) -> str:
    """A duration for people, in its two largest units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        if whole % 60 and whole < 600:
            return f"{whole // 60} min {whole % 60} s"
        return f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
