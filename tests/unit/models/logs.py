"""Small interaction logs for the tests of the models."""

from collections.abc import Sequence

import numpy as np

from slipstream.models.base import History, InteractionLog


def log_of(sequences: Sequence[Sequence[int]], n_items: int, gap_ms: int = 1_000) -> InteractionLog:
    """One user a sequence, events `gap_ms` apart."""
    lengths = [len(sequence) for sequence in sequences]
    return InteractionLog(
        np.repeat(np.arange(len(sequences)), lengths).astype(np.int32),
        np.array([item for sequence in sequences for item in sequence], np.int32),
        np.array([place * gap_ms for length in lengths for place in range(length)], np.int64),
        np.ones(sum(lengths), np.float32),
        n_items,
    )


def history_of(*items: int, weight: float = 1.0, gap_ms: int = 1_000) -> History:
    """A history of these items, the latest last."""
    size = len(items)
    times = np.arange(size, dtype=np.int64) * gap_ms
    return History(np.array(items, np.int32), np.full(size, weight, np.float32), times)
