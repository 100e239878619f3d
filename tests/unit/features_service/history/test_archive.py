"""The archive, on a lake on disk that can be made to fail."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
import pytest

from services.features.history.archive import PORTIONS_HELD, Archive
from slipstream.broker.records import Batch, Message
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import Source
from slipstream.stores.lake import INTERACTIONS, Lake, LakeConflictError, LakeUnavailableError

SOURCE = Source("interactions.v1", "topic-1", 0)


class TroubledLake(Lake):
    """A lake that raises the errors in `before` and `after`, before or after it has written."""

    def __init__(self, settings: LakeSettings) -> None:
        super().__init__(settings, "shop")
        self.before: list[Exception] = []
        self.after: list[Exception] = []

    def append(self, table: str, rows: pa.Table, offsets: Mapping[Source, int]) -> int:
        if self.before:
            raise self.before.pop()
        version = super().append(table, rows, offsets)
        if self.after:
            raise self.after.pop()
        return version


@pytest.fixture
def lake(lake_settings: LakeSettings) -> TroubledLake:
    return TroubledLake(lake_settings)


@pytest.fixture
def archive(lake: TroubledLake) -> Iterator[Archive]:
    made = Archive(lake, flush_s=30.0, flush_rows=4, flush_bytes=2**20)
    yield made
    made.close()


def batch(first: int, count: int) -> Batch:
    messages = [
        Message(
            SOURCE,
            n,
            "u",
            Interaction(
                event_id=f"e{n}", event_type="view", user_id="u", timestamp=n, received_at=n
            ),
            "",
        )
        for n in range(first, first + count)
    ]
    return Batch(messages, [], {SOURCE: first + count})


def test_large_rows_are_written_and_pause_reading_by_their_bytes(archive: Archive) -> None:
    """The fixture writes from four rows or a mebibyte on."""
    large = batch(0, 1)
    large.messages = [replace(large.messages[0], size=2**20)]
    archive.add(large)
    assert not archive.full
    for first in (1, 2, 3):
        following = batch(first, 1)
        following.messages = [replace(following.messages[0], size=2**20)]
        archive.add(following)
    assert archive.full
    reached = archive.step() or archive.drain(60.0)
    assert reached == {SOURCE: 4} and not archive.full


def ids_in(lake: Lake) -> list[str]:
    return sorted(lake.read(INTERACTIONS, columns=["event_id"])["event_id"].to_pylist())


def stepped(archive: Archive, timeout_s: float = 60.0) -> Mapping[Source, int]:
    deadline = time.monotonic() + timeout_s
    while not (reached := archive.step()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return reached


def test_rows_wait_until_there_are_enough_and_offsets_follow_the_write(
    archive: Archive, lake: TroubledLake
) -> None:
    archive.add(batch(0, 3))
    assert archive.step() == {} and ids_in(lake) == [] and not archive.empty
    archive.add(batch(3, 1))
    assert stepped(archive) == {SOURCE: 4}
    assert (ids_in(lake), archive.empty) == (["e0", "e1", "e2", "e3"], True)


def test_drain_writes_at_once(archive: Archive, lake: TroubledLake) -> None:
    archive.add(batch(0, 2))
    assert archive.drain(20) == {SOURCE: 2}
    assert (ids_in(lake), archive.drain(1)) == (["e0", "e1"], {})


def test_rows_read_again_before_they_were_written_are_taken_once(
    archive: Archive, lake: TroubledLake
) -> None:
    archive.add(batch(0, 2))
    archive.add(batch(0, 3))
    archive.drain(20.0)
    assert ids_in(lake) == ["e0", "e1", "e2"]
    archive.add(batch(3, 1))
    archive.abandon()
    archive.add(batch(3, 1))
    archive.drain(20.0)
    assert ids_in(lake) == ["e0", "e1", "e2", "e3"]


def test_rows_read_again_are_not_written_again(archive: Archive, lake: TroubledLake) -> None:
    archive.add(batch(0, 4))
    archive.drain(20)
    archive.add(batch(2, 4))
    assert archive.drain(20) == {SOURCE: 6}
    assert ids_in(lake) == [f"e{n}" for n in range(6)]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_failed_write_is_tried_again_and_leaves_no_row_twice(
    archive: Archive, lake: TroubledLake, moment: str
) -> None:
    getattr(lake, moment).append(LakeUnavailableError("disk full"))
    archive.add(batch(0, 4))
    while archive.failure is None:
        assert archive.step() == {}
        time.sleep(0.005)
    assert archive.failure == "disk full" and not archive.empty
    archive.add(batch(4, 1))
    assert stepped(archive) == {SOURCE: 4}
    assert archive.failure is None
    archive.drain(20)
    assert ids_in(lake) == [f"e{n}" for n in range(5)]


def test_a_conflict_is_settled_by_looking_again(
    archive: Archive, lake: TroubledLake, lake_settings: LakeSettings
) -> None:
    other = Archive(Lake(lake_settings, "shop"), flush_s=30.0, flush_rows=4, flush_bytes=2**20)
    other.add(batch(0, 2))
    other.drain(20)
    other.close()
    lake.before.append(LakeConflictError("somebody was faster"))
    archive.add(batch(0, 4))
    assert archive.drain(20) == {SOURCE: 4}
    assert ids_in(lake) == [f"e{n}" for n in range(4)]


def test_drain_gives_up_on_a_lake_that_fails(archive: Archive, lake: TroubledLake) -> None:
    lake.before += [LakeUnavailableError("gone")] * 3
    archive.add(batch(0, 2))
    assert archive.drain(20) == {}
    assert not archive.empty
    archive.abandon()
    assert archive.step() == {} and archive.failure is None


PRESENT = {SOURCE.topic: SOURCE.topic_id}
RECREATED = {SOURCE.topic: "topic-2"}


@pytest.mark.parametrize("ids", [PRESENT, RECREATED], ids=["read again", "gone"])
def test_abandoned_rows_are_written_once_their_topic_is_gone_and_dropped_where_it_is_read_again(
    archive: Archive, lake: TroubledLake, ids: dict[str, str]
) -> None:
    archive.add(batch(0, 3))
    archive.abandon()
    archive.settle({})
    assert archive.step() == {} and not archive.empty, "nothing is known of the topic yet"
    assert archive.positions(["e1"]) == {"e1": [(SOURCE.name, 1)]}
    archive.settle(ids)
    assert archive.empty == (ids == PRESENT)
    assert archive.drain(20.0) == ({} if ids == PRESENT else {SOURCE: 3})
    assert ids_in(lake) == ([] if ids == PRESENT else ["e0", "e1", "e2"])


def test_rows_of_a_topic_that_is_gone_are_written_once_however_often_they_were_taken(
    archive: Archive, lake: TroubledLake, lake_settings: LakeSettings
) -> None:
    archive.add(batch(0, 4))
    archive.step()  # these are under way to the lake when they are abandoned
    archive.add(batch(4, 2))
    archive.abandon()
    archive.add(batch(0, 8))
    archive.abandon()
    archive.add(batch(0, 7))
    other = Archive(Lake(lake_settings, "shop"), flush_s=30.0, flush_rows=4, flush_bytes=2**20)
    other.add(batch(0, 5))
    other.drain(20.0)
    other.close()
    archive.settle(RECREATED)
    archive.drain(20.0)
    assert ids_in(lake) == [f"e{n}" for n in range(8)] and archive.empty


def test_reading_is_to_pause_when_too_much_waits(archive: Archive) -> None:
    assert not archive.full
    archive.add(batch(0, 4 * PORTIONS_HELD))
    assert archive.full


def test_nothing_is_appended_while_an_erasure_holds_the_lake(lake: TroubledLake) -> None:
    held, asked = threading.Event(), threading.Event()
    held.set()

    def ask() -> bool:
        asked.set()
        return held.is_set()

    archive = Archive(lake, flush_s=30.0, flush_rows=4, flush_bytes=10**6, held=ask)
    archive.add(batch(0, 4))
    assert archive.step() == {} and asked.wait(60)
    assert (archive.step(), ids_in(lake)) == ({}, [])
    held.clear()
    assert stepped(archive) == {SOURCE: 4}
    assert ids_in(lake) == [f"e{n}" for n in range(4)]
    archive.close()
