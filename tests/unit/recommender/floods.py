"""Floods of scripted visitors, as arrays of a log."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

GAPS = ("steady", "jittered", "as a person's")
WALKS = ("catalogue", "ten items")


class Log(NamedTuple):
    """Visitor, item and time (ms) of each event."""

    visitors: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]


def flood(
    gaps: str = "steady",
    walk: str = "catalogue",
    *,
    visitors: int = 60,
    events: int = 185,
    items: int = 400,
    start_ms: int = 1_743_897_600_123,
    mean_ms: int = 40_000,
    first_visitor: int = 0,
    seed: int = 0,
) -> Log:
    """Visitors who begin within ten minutes, and go through items in their order.

    Args:
        gaps: `steady`, `jittered` by a fifth, or `as a person's` (log-normal).
        walk: `catalogue`, from any item on, or `ten items` again and again.
        visitors: Number of visitors.
        events: Events of each.
        items: Size of the catalogue.
        start_ms: Time of the first event.
        mean_ms: Mean gap.
        first_visitor: Number of the first visitor.
        seed: Seed.
    """
    random = np.random.default_rng(seed)
    shape = (visitors, events)
    between = {
        "steady": lambda: np.full(shape, mean_ms),
        "jittered": lambda: mean_ms * random.uniform(0.8, 1.2, shape),
        "as a person's": lambda: mean_ms * random.lognormal(-0.5, 1, shape),
    }[gaps]()
    times = np.cumsum(np.maximum(between, 1).astype(np.int64), axis=1)
    times += start_ms + random.integers(0, 600_000, (visitors, 1))
    step, begin = np.arange(events), random.integers(0, items, (visitors, 1))
    item = (begin + step) % items if walk == "catalogue" else np.broadcast_to(step % 10, shape)
    visitor = np.repeat(np.arange(first_visitor, first_visitor + visitors), events)
    return Log(visitor, item.ravel(), times.ravel())
