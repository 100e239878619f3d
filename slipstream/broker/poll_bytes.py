"""The limit of a poll in bytes. kafka-python has one of records only, which may be large."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

# Records that are taken before their bytes are counted; a poll exceeds its limit by them at most.
STEP: Final = 32
# Bytes of a record besides its value: its key, its headers, its objects.
_OVERHEAD: Final = 200

# Appends records of a partition's fetch to those of the poll, up to a number; returns how many.
Append = Callable[[dict[Any, list[Any]], Any, int, bool], int]


def bounded(append: Append, max_bytes: int) -> Append:
    """Let a poll end once its records have `max_bytes`. The rest stays fetched for the next poll.

    Args:
        append: The library's function, which a poll calls for each partition until it has enough
            records.
        max_bytes: Bytes of the records of a poll.
    """
    room = max_bytes

    @wraps(append)
    def append_bounded(
        drained: dict[Any, list[Any]], part: Any, most: int, update_offsets: bool
    ) -> int:
        nonlocal room
        if not drained:  # a poll begins
            room = max_bytes
        taken = 0
        while taken < most and part:
            count = append(drained, part, min(STEP, most - taken), update_offsets)
            if not count:
                break
            taken += count
            fresh = drained[part.topic_partition][-count:]
            room -= sum(len(record.value or b"") + _OVERHEAD for record in fresh)
            if room <= 0:
                return most  # as if the poll had all the records that it may have
        return taken

    return append_bounded
