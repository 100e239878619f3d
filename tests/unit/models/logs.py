"""Small interaction logs for the tests of the models."""

from collections.abc import Sequence

import numpy as np

from slipstream.models.base import InteractionLog


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
