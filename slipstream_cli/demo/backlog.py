"""Which events of a file Slipstream has not got yet, so that a replay that was interrupted goes on
where it stopped.
"""

from collections import Counter
from collections.abc import Callable

import pyarrow as pa


def missing_events(interactions: pa.Table, stored: Callable[[str], int]) -> pa.Table:
    """The events by time, less the first `stored(user_id)` of each visitor: a replay sends a
    visitor's events in order.
    """
    ordered = interactions.sort_by("timestamp")
    user_ids = ordered["user_id"].to_pylist()
    there = {user_id: stored(user_id) for user_id in sorted(set(user_ids))}
    passed: Counter[str] = Counter()
    kept = []
    for user_id in user_ids:
        kept.append(passed[user_id] >= there[user_id])
        passed[user_id] += 1
    return ordered.filter(pa.array(kept))
