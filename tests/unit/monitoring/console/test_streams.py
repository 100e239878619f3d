"""Streams: who gets which events, what is dropped, and how they end."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.console.http.flow import written
from services.monitoring.console.passing_records import Choice, PassingRecord, passing
from services.monitoring.console.streams import (
    MOST_STREAMS,
    QUEUE,
    QUEUE_BYTES,
    Stream,
    Streams,
    TooManyStreamsError,
)
from slipstream.broker.tail import TailRecord
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS


def always() -> bool:
    return True


def records(count: int, begin: int = 0, size: int = 0) -> list[PassingRecord]:
    """Clicks at offsets from `begin` on."""
    value = json.dumps({"event_type": "click", "user_id": "ada", "x": "y" * size}).encode()
    return [
        passing(TailRecord(INTERACTIONS, 0, begin + number, 5, "rid", value))
        for number in range(count)
    ]


def told(stream: Stream) -> list[tuple[str, Any]]:
    """The events that wait, each with its name."""
    events = []
    for text in stream.take().decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        assert fields["id"] == "7"
        events.append((fields["event"], json.loads(fields["data"])))
    return events


@pytest.fixture
async def streams() -> Streams:
    return Streams(written, lambda: 7)


async def test_each_gets_what_it_has_chosen(streams: Streams) -> None:
    figures = streams.open(None, True, always)
    everything = streams.open(Choice(), False, always)
    others = streams.open(Choice(kind="view"), True, always)
    streams.show(records(2), 2)
    streams.tick({"events_per_s": 2.0})
    assert told(figures) == [("figures", {"events_per_s": 2.0})]
    assert [(name, body["offset"]) for name, body in told(everything)] == [
        ("record", 0), ("record", 1),
    ]  # fmt: skip
    assert told(others) == [("figures", {"events_per_s": 2.0})]
    assert told(others) == []


async def test_a_share_says_of_how_many(streams: Streams) -> None:
    stream = streams.open(Choice(), False, always)
    figures = streams.open(None, True, always)
    streams.show(records(3), 50)
    streams.show([], 10)
    streams.tick({})
    assert told(stream)[3:] == [("left_out", {"shown": 3, "of": 60, "dropped": 0})]
    assert [name for name, _ in told(figures)] == ["figures"]
    streams.show(records(3), 3)
    streams.tick({})
    assert [name for name, _ in told(stream)] == ["record"] * 3


async def test_a_slow_client_loses_the_oldest_records_and_hears_how_many(streams: Streams) -> None:
    slow, quick = (streams.open(Choice(), False, always) for _ in range(2))
    streams.show(records(QUEUE), QUEUE)
    assert len(told(quick)) == QUEUE
    streams.show(records(5, QUEUE), 5)
    streams.tick({})
    events = told(slow)
    assert [body["offset"] for name, body in events if name == "record"] == [*range(5, QUEUE + 5)]
    assert events[-1] == ("left_out", {"shown": QUEUE + 5, "of": QUEUE + 5, "dropped": 5})
    assert [name for name, _ in told(quick)] == ["record"] * 5


async def test_large_records_take_no_more_memory_than_a_queue_may(streams: Streams) -> None:
    stream = streams.open(Choice(), False, always)
    streams.show(records(QUEUE, size=60_000), QUEUE)
    assert len(stream.take()) <= QUEUE_BYTES
    assert stream.dropped() >= QUEUE - QUEUE_BYTES // 60_000


async def test_figures_of_a_client_that_reads_nothing_do_not_pile_up(streams: Streams) -> None:
    stream = streams.open(None, True, always)
    for _ in range(3 * QUEUE):
        streams.tick({})
    assert len(told(stream)) == QUEUE


async def test_there_are_so_many_streams_at_most(streams: Streams) -> None:
    opened = [streams.open(None, True, always) for _ in range(MOST_STREAMS)]
    with pytest.raises(TooManyStreamsError):
        streams.open(None, True, always)
    streams.close(opened[0])
    streams.close(opened[0])
    streams.open(None, True, always)
    with pytest.raises(TooManyStreamsError):
        streams.open(None, True, always)


async def test_one_credential_has_half_of_the_streams_at_most(streams: Streams) -> None:
    for _ in range(MOST_STREAMS // 2):
        streams.open(None, True, always, "reader")
    with pytest.raises(TooManyStreamsError):
        streams.open(None, True, always, "reader")
    streams.open(None, True, always, "admin")


async def test_records_are_read_of_the_topics_that_somebody_wants(streams: Streams) -> None:
    assert not streams.watched and streams.topics() == frozenset()
    figures = streams.open(None, True, always)
    assert streams.watched and streams.topics() == frozenset()
    one = streams.open(Choice(topic=DEAD_LETTERS.name), False, always)
    assert streams.topics() == {DEAD_LETTERS.name}
    every = streams.open(Choice(), False, always)
    assert streams.topics() == {None}
    for each in (figures, one, every):
        streams.close(each)
    assert not streams.watched and streams.topics() == frozenset()


async def test_all_end_at_once_and_so_do_those_that_come_later(streams: Streams) -> None:
    before = streams.open(Choice(), True, always)
    streams.end()
    assert before.is_over and told(before) == [("end", {})]
    assert streams.open(None, True, always).is_over


async def test_what_threads_put_in_wakes_the_client(streams: Streams) -> None:
    stream = streams.open(Choice(), False, always)
    waiting = asyncio.create_task(stream.wait(60))
    await asyncio.to_thread(streams.show, records(1), 1)
    await asyncio.wait_for(waiting, 30)
    assert len(told(stream)) == 1
    await stream.wait(0)


@given(st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=20))
def test_every_record_is_shown_or_counted_as_dropped(turns: Sequence[tuple[int, bool]]) -> None:
    async def run() -> None:
        streams = Streams(written, lambda: 7)
        stream = streams.open(Choice(), False, always)
        sent, shown, dropped = 0, list[int](), 0
        for count, reads in [*turns, (0, True)]:
            streams.show(records(count, sent), count)
            sent += count
            if reads:
                shown += [body["offset"] for _, body in told(stream)]
                dropped += stream.dropped()
        assert len(shown) + dropped == sent
        assert shown == sorted(set(shown))

    asyncio.run(run())
