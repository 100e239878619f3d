"""A poll ends by bytes: what is taken of a fetch is bounded, and nothing is left out."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker.consumer_client import STEP, bounded


@dataclass(frozen=True)
class Fetched:
    value: bytes | None


class Part:
    """Records of a partition, as kafka-python's fetcher holds them."""

    def __init__(self, partition: int, sizes: list[int | None]) -> None:
        self.topic_partition = partition
        self.records = [Fetched(None if size is None else bytes(size)) for size in sizes]

    def __bool__(self) -> bool:
        return bool(self.records)


def by_library(drained: Any, part: Any, most: int, update_offsets: bool) -> int:
    taken, part.records = part.records[:most], part.records[most:]
    drained[part.topic_partition] += taken
    return len(taken)


def polled(append: Any, parts: list[Part], most: int) -> list[Fetched]:
    """One poll, as the library makes it."""
    drained: dict[Any, list[Any]] = defaultdict(list)
    for part in parts:
        while part and most > 0:
            most -= append(drained, part, most, True)
    return [record for records in drained.values() for record in records]


SIZES = st.lists(st.none() | st.integers(0, 2_000), max_size=200)


@given(st.lists(SIZES, max_size=3), st.integers(1, 50_000), st.integers(1, 150))
def test_every_poll_has_a_bound_and_all_polls_have_everything(
    sizes: list[list[int | None]], max_bytes: int, most: int
) -> None:
    parts = [Part(number, some) for number, some in enumerate(sizes)]
    everything = [record for part in parts for record in part.records]
    append, records = bounded(by_library, max_bytes), []
    while any(parts):
        poll = polled(append, parts, most)
        assert 0 < len(poll) <= most
        assert sum(len(record.value or b"") for record in poll) < max_bytes + STEP * 2_000
        records += poll
    assert records == everything


def test_small_records_are_bounded_by_their_number_alone() -> None:
    append = bounded(by_library, 1_000_000)
    assert len(polled(append, [Part(0, [10] * 3_000)], 2_500)) == 2_500
