"""Leader epochs: under which leader of its partition each record was written.

Every election of a leader begins a new epoch. Where a leader lacked records that the one before it
had, the log has other records under their offsets. Offset and epoch together name one record.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, NamedTuple

from kafka import TopicPartition

UNKNOWN: Final = -1
# Changes of a partition's epoch that are remembered. Offsets that are committed are newer.
_KEPT: Final = 64
_EPOCH = attrgetter("leader_epoch")


class EpochSpan(NamedTuple):
    """Records of one partition that came in a row and were written in one epoch, from the offset
    `first` to `last`.
    """

    epoch: int
    first: int
    last: int


def spans_of(records: Sequence[Any]) -> list[EpochSpan]:
    """The spans of the library's records of one partition; in a log the epochs only grow."""
    if _EPOCH(records[0]) == _EPOCH(records[-1]):
        return [_span(records)]
    return [_span(list(group)) for _, group in groupby(records, _EPOCH)]


class Epochs:
    """The epochs of what a consumer has read. The polling thread uses it."""

    def __init__(self) -> None:
        # Of each partition the first offset read of each epoch, in order.
        self._begun: dict[TopicPartition, list[tuple[int, int]]] = {}

    def note(self, partition: TopicPartition, spans: Sequence[EpochSpan]) -> None:
        """Note what was read; a partition that goes back forgets what lay behind."""
        begun = self._begun.setdefault(partition, [])
        for span in spans:
            while begun and begun[-1][0] >= span.first:
                begun.pop()
            if not begun or begun[-1][1] != span.epoch:
                begun.append((span.first, span.epoch))
        del begun[:-_KEPT]

    def before(self, partition: TopicPartition, offset: int) -> int:
        """The epoch of the record before an offset; `UNKNOWN` for one that was not read."""
        begun = self._begun.get(partition, ())
        return next((epoch for first, epoch in reversed(begun) if first < offset), UNKNOWN)


def _span(records: Sequence[Any]) -> EpochSpan:
    epoch = _EPOCH(records[0])
    return EpochSpan(
        UNKNOWN if epoch is None else int(epoch), records[0].offset, records[-1].offset
    )
