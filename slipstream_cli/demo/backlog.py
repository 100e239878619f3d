"""The events of a file that are not stored yet, from which an interrupted replay continues."""

from collections import Counter
from collections.abc import Callable

import pyarrow as pa


def missing_events(interactions: pa.Table, stored: Callable[[str], int]) -> pa.Table:
    """Select the events that a replay, which sends each visitor's in order, has still to send.

    Args:
        interactions: All events.
        stored: The number of events stored, by visitor.

    Returns:
        The events by time, without the first `stored(user_id)` of each visitor.
    """
    ordered = interactions.sort_by("timestamp")
    user_ids = ordered["user_id"].to_pylist()
    sent = {user_id: stored(user_id) for user_id in sorted(set(user_ids))}
    passed: Counter[str] = Counter()
    kept = []
    for user_id in user_ids:
        kept.append(passed[user_id] >= sent[user_id])
        passed[user_id] += 1
    return ordered.filter(pa.array(kept))
