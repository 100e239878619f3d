"""Interactions on visitors and items that no other test knows, and the counts due for them."""

import csv
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

EVENTS = 6_000
VISITORS = 200
ITEMS = 50
# Real time passes in a replay as these many times as fast: it takes six seconds.
SPACING_MS, SPEED = 500, 500.0
PREFIX = "replayed-"
COLUMNS = ("user_id", "item_id", "event_type", "timestamp")

Row = tuple[str, str, str, int]


def interactions(seed: int = 5) -> list[Row]:
    """Rows of `COLUMNS`, oldest first, of the last hour; no two have the same time."""
    chance = random.Random(seed)
    start = time.time_ns() // 1_000_000 - (EVENTS + 1) * SPACING_MS
    return [
        (
            f"{PREFIX}{chance.randrange(VISITORS)}",
            f"{PREFIX}{chance.randrange(ITEMS)}",
            chance.choice(("view", "view", "click", "cart", "purchase")),
            start + number * SPACING_MS,
        )
        for number in range(EVENTS)
    ]


def write(rows: Sequence[Row], path: Path) -> Path:
    """The rows as a file that `slipstream replay` takes."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def counts(rows: Sequence[Row], column: str) -> dict[str, Counter[str]]:
    """Events by type, for each visitor (`user_id`) or item (`item_id`)."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row[COLUMNS.index(column)], Counter())[
            row[COLUMNS.index("event_type")]
        ] += 1
    return found
