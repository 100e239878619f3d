"""Copies that count, with the first in the lake, on its way there, or in the same batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from services.features.history.archive import Archive
from services.features.stream.screening import OVERTAKEN_MS, OVERTAKEN_OFFSETS, Repeats
from slipstream.broker.records import Batch, Message
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import Source
from slipstream.contracts.times import DAY_MS
from slipstream.stores.lake import INTERACTIONS, Lake

SOURCE, OTHER = Source("interactions.v1", "topic-1", 0), Source("interactions.v1", "topic-1", 1)
OLD = Source("interactions.v1", "topic-0", 0)
NOW = 1_790_000_000_000

Copy = Message[Interaction]


def copy(
    offset: int,
    event_id: str = "e",
    source: Source = SOURCE,
    marked: bool = True,
    at: int = NOW,
    imported: bool = False,
    happened: int | None = None,
) -> Copy:
    event = Interaction(
        event_id=event_id,
        event_type="view",
        user_id="u",
        timestamp=at if happened is None else happened,
        received_at=at,
        maybe_repeat=marked,
        imported=imported,
    )
    return Message(source, offset, "u", event, "")


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    return Lake(lake_settings, "shop")


@pytest.fixture
def archive(lake: Lake) -> Iterator[Archive]:
    made = Archive(lake, flush_s=30.0, flush_rows=1_000, flush_bytes=2**25)
    yield made
    made.close()


def take(
    archive: Archive,
    lake: Lake,
    messages: Sequence[Copy],
    into: str = "lake",
    repeats: Repeats | None = None,
) -> list[int]:
    """The offsets of the messages that count, which then go to the lake or on their way there.

    Without `repeats`, they are judged as after a start of the service.
    """
    repeats = repeats or Repeats(lake, archive.positions, 2 * DAY_MS)
    kept, dropped = repeats.without(messages)
    assert dropped == len(messages) - len(kept)
    if into != "nowhere":
        archive.add(Batch(kept, [], {message.source: message.offset + 1 for message in messages}))
    if into == "lake":
        archive.drain(20)
    return [message.offset for message in kept]


@pytest.mark.parametrize("into", ["lake", "way"])
def test_a_marked_first_copy_counts_and_a_marked_second_does_not(
    lake: Lake, archive: Archive, into: str
) -> None:
    assert take(archive, lake, [copy(3)], into) == [3]
    assert take(archive, lake, [copy(5), copy(6, "f")], into) == [6]
    assert take(archive, lake, [copy(1, source=OTHER)], into) == [], "sent by another user name"
    assert take(archive, lake, [copy(7, "g", marked=False)], into) == [7]


def test_within_a_batch_the_first_counts(lake: Lake, archive: Archive) -> None:
    batch = [copy(0, marked=False), copy(1), copy(2, "f"), copy(3, "f"), copy(0, "f", OTHER)]
    assert take(archive, lake, batch, "nowhere") == [0, 2]
    entry = Message(
        Source("catalog.v1", "t", 0),
        0,
        "",
        CatalogRecord(entity="item", entity_id="e", timestamp=1),
        "",
    )
    assert Repeats(lake, archive.positions, DAY_MS).without([entry, copy(0)])[1] == 0


def test_a_copy_on_the_topic_of_before_counts(lake: Lake, archive: Archive) -> None:
    assert take(archive, lake, [copy(900, source=OLD, marked=False)]) == [900]
    assert take(archive, lake, [copy(0)]) == []


def test_a_copy_that_was_overtaken_by_its_marked_one_does_not_count(
    lake: Lake, archive: Archive
) -> None:
    """Two replicas of ingestion had one copy each under way."""
    running = Repeats(lake, archive.positions, DAY_MS)
    assert take(archive, lake, [copy(3), copy(4, marked=False)], repeats=running) == [3], (
        "in one batch"
    )
    assert take(archive, lake, [copy(5, "f")], "way", running) == [5]
    assert take(archive, lake, [copy(6, "f", marked=False)], repeats=running) == [], (
        "in the next one"
    )
    archive.drain(20)
    assert take(archive, lake, [copy(6, "f", marked=False)]) == [], "after a restart in between"
    running.forget()
    assert take(archive, lake, [copy(6, "f", marked=False)], repeats=running) == [], (
        "after partitions have moved"
    )
    assert take(archive, lake, [copy(3), copy(4, marked=False), copy(5, "f")]) == [3, 5], (
        "read again from the beginning"
    )
    later, far = NOW + OVERTAKEN_MS + 1, 3 + OVERTAKEN_OFFSETS + 1
    near = [copy(far, marked=False, at=later - 1), copy(far - 1, marked=False, at=later)]
    assert take(archive, lake, near) == [], "just within one of the bounds"
    assert take(archive, lake, [copy(far, marked=False, at=later)]) == [far], (
        "the id was used again"
    )
    assert take(archive, lake, [copy(2, "f", marked=False)]) == [2], (
        "it stood before its marked copy"
    )


@pytest.mark.parametrize("apart", [DAY_MS, -DAY_MS])
def test_the_clocks_of_two_ingestions_may_be_a_day_apart(
    lake: Lake, archive: Archive, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    monkeypatch.setattr("services.features.stream.screening._MANY", 1)
    running = Repeats(lake, archive.positions, DAY_MS)
    others = [copy(4, "f", at=NOW + DAY_MS), copy(5, "g", at=NOW + DAY_MS)]
    assert take(archive, lake, [copy(3), *others], "way", running) == [3, 4, 5]
    assert take(archive, lake, [copy(6, marked=False, at=NOW + apart)], repeats=running) == []


def test_a_partition_that_is_behind_does_not_forget_by_the_clock_of_another(
    lake: Lake, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.stream.screening._MANY", 1)
    running = Repeats(lake, archive.positions, DAY_MS)
    hour = 3_600_000
    ahead = [copy(number, f"o{number}", OTHER, at=NOW + hour) for number in range(3)]
    assert take(archive, lake, [copy(3), *ahead], "way", running) == [3, 0, 1, 2]
    assert take(archive, lake, [copy(4, marked=False)], "way", running) == []


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[0], [1], [2, 3]], [[0, 1], [2], [3]]])
def test_what_is_read_again_gets_the_same_verdict(
    lake: Lake, archive: Archive, batches: list[list[int]]
) -> None:
    stream = [copy(0), copy(1, "f", marked=False), copy(2), copy(3, "f")]
    first = [
        offset for batch in batches for offset in take(archive, lake, [stream[n] for n in batch])
    ]
    assert first == [0, 1]
    version = lake.version(INTERACTIONS)
    for parts in ([[0, 1, 2, 3]], [[0], [1], [2], [3]]):
        assert [
            offset for part in parts for offset in take(archive, lake, [stream[n] for n in part])
        ] == first
    assert lake.version(INTERACTIONS) == version
    assert take(archive, lake, [stream[2]]) == [], "reading began in the middle"


def test_the_search_goes_back_as_far_as_it_is_told(lake: Lake, archive: Archive) -> None:
    assert take(archive, lake, [copy(0, at=NOW - 4 * DAY_MS), copy(1, "f", at=NOW - DAY_MS)]) == [
        0,
        1,
    ]
    assert take(archive, lake, [copy(2), copy(3, "f")]) == [2]


@pytest.mark.parametrize("into", ["lake", "way"])
def test_what_is_imported_again_never_counts_twice(lake: Lake, archive: Archive, into: str) -> None:
    """Whenever that is, and by whatever topic or marking; other imported events count."""

    def imported(offset: int, event_id: str, days_later: int = 0, **others: Any) -> Copy:
        return copy(
            offset,
            event_id,
            at=NOW + days_later * DAY_MS,
            happened=NOW - 500 * DAY_MS,
            imported=True,
            **{"marked": False, **others},
        )

    first = [imported(0, "e"), imported(1, "f"), imported(2, "e")]
    assert take(archive, lake, first, into) == [0, 1], "the first of two in one batch"
    assert take(archive, lake, first, into) == [0, 1], "read again"
    again = [imported(3, "e", 300), imported(4, "f", 300, marked=True), imported(5, "g", 300)]
    assert take(archive, lake, again, into) == [5]
    elsewhere = [imported(0, "f", 300, source=Source("interactions.v1", "topic-2", 0))]
    assert take(archive, lake, elsewhere, into) == []
