"""A small shop with a known answer: visitors walk along a ring of items, mostly to the next one."""

import numpy as np
import pyarrow as pa

ITEMS = 40
COLOURS = ("red", "green", "blue", "black", "white")


def item_name(place: int) -> str:
    return f"item-{place % ITEMS:02d}"


def chain_interactions(visitors: int = 300, length: int = 8, seed: int = 0) -> pa.Table:
    """Each visitor starts anywhere and goes to the next item of the ring nine times in ten, else to
    any.
    """
    random = np.random.default_rng(seed)
    rows: list[tuple[str, str, int]] = []
    for visitor in range(visitors):
        place, clock = int(random.integers(ITEMS)), 1_700_000_000_000 + visitor * 1_000_000
        for step in range(length):
            rows.append((f"visitor-{visitor:03d}", item_name(place), clock + step * 60_000))
            place = (place + 1) % ITEMS if random.random() < 0.9 else int(random.integers(ITEMS))
    users, items, timestamps = zip(*rows, strict=True)
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "event_type": pa.array(["view"] * len(rows), pa.string()),
            "timestamp": pa.array(timestamps, pa.int64()),
        }
    )


def chain_items(*new: str) -> pa.Table:
    """The ring's items with a title and a colour; `new` ones, which are unseen, are all mauve
    like items 0 and 1.
    """
    names = [item_name(place) for place in range(ITEMS)]
    colours = ["mauve" if place < 2 else COLOURS[place % len(COLOURS)] for place in range(ITEMS)]
    return pa.table(
        {
            "item_id": pa.array([*names, *new], pa.string()),
            "title": pa.array(
                [f"{colour} garment" for colour in [*colours, *("mauve" for _ in new)]], pa.string()
            ),
            "colour": pa.array([*colours, *("mauve" for _ in new)], pa.string()),
        }
    )
