"""The threads behind flow and streams."""

import asyncio
import threading
from typing import Any

import orjson
import pytest

from services.monitoring.console import watching
from services.monitoring.console.http.flow import written
from services.monitoring.console.passing_records import Choice
from services.monitoring.console.streams import QUEUE, Streams
from services.monitoring.console.watching import FlowWatch, records_target
from slipstream.broker.gauge import Gauged
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.tail import TailRecord
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.topics import DEAD_LETTERS, FEATURE_UPDATES, INTERACTIONS
from tests.waiting import until


class ScriptedGauge:
    """Offsets that grow by ten with each reading; `fails` makes a reading fail."""

    def __init__(self) -> None:
        self.opened = self.closed = self.read_ends = 0
        self.fails = False

    def open(self) -> Any:
        self.opened += 1
        return self

    def read(self) -> Gauged:
        if self.fails:
            raise BrokerUnavailableError("no broker answers")
        self.read_ends += 10
        topic = INTERACTIONS.name
        committed = {"features": {topic: {0: self.read_ends // 2}}}
        ends = {topic: {0: self.read_ends}, DEAD_LETTERS.name: {0: self.read_ends // 10}}
        return Gauged(ends, {topic: {0: 0}, DEAD_LETTERS.name: {0: 0}}, committed)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_IDLE_S", "_EVERY_S", "_UNWATCHED_S", "_FIRST_PAUSE_S", "_PAUSE_S", "_PORTION_S"):
        monkeypatch.setattr(watching, name, 0.01)


def running(target: Any) -> tuple[threading.Event, threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=target, args=(stop,), daemon=True)
    thread.start()
    return stop, thread


class ScriptedUpdates:
    """Updates of features that tell that everything but two records was applied in 21 ms."""

    def __init__(self, gauge: ScriptedGauge) -> None:
        self._gauge, self.closed = gauge, 0

    def read(self, _timeout_s: float) -> tuple[list[TailRecord], int]:
        applied = {"0": self._gauge.read_ends - 2}
        value = orjson.dumps({"applied": applied, "delay_ms": 21})
        other = orjson.dumps({"applied": {}, "delay_ms": None})
        return [TailRecord(FEATURE_UPDATES, 0, 0, 5, "", each) for each in (value, other)], 2

    def close(self) -> None:
        self.closed += 1


async def test_offsets_are_read_before_somebody_watches() -> None:
    gauge, streams = ScriptedGauge(), Streams(written, lambda: 7)
    updates = ScriptedUpdates(gauge)
    watch = FlowWatch(gauge.open, lambda: updates, streams, list, lambda: 3, lambda: 7)  # type: ignore[arg-type, return-value]
    stop, thread = running(watch.run)
    await asyncio.to_thread(until, lambda: gauge.read_ends > 50)
    stream = streams.open(None, True, lambda: True)
    seen = b""
    async with asyncio.timeout(30):
        while b'"events_per_s":' not in seen:
            await stream.wait(1)
            seen = stream.take()
    figures = orjson.loads(seen.split(b"data: ")[-1].split(b"\n")[0])
    assert figures["alerts"] == 3 and figures["events_per_s"] > 0
    assert figures["features_delay_ms"] == 21
    rejected, records = watch.rejections() or (0, 0)
    assert records > 0 and rejected == records // 11, "a letter to ten interactions"
    streams.close(stream)
    stop.set()
    await asyncio.to_thread(thread.join, 30)
    assert (gauge.opened, gauge.closed, updates.closed) == (1, 1, 1)
    assert streams.open(None, True, lambda: True).is_over


async def test_without_a_broker_figures_say_nothing_and_come_back() -> None:
    gauge, streams = ScriptedGauge(), Streams(written, lambda: 7)
    gauge.fails = True
    updates = ScriptedUpdates(gauge)
    watch = FlowWatch(gauge.open, lambda: updates, streams, list, lambda: 0, lambda: 7)  # type: ignore[arg-type, return-value]
    stop, thread = running(watch.run)
    try:
        without = await asyncio.to_thread(watch.report)
        assert {node.state for node in without.nodes if node.kind == "topic"} == {"unavailable"}
        assert all(edge.rate is None for edge in without.edges)
        gauge.fails = False

        def has_rates() -> bool:
            return any(edge.rate for edge in watch.report().edges)

        await asyncio.to_thread(until, has_rates)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 30)
    assert gauge.opened == gauge.closed


async def test_records_are_read_of_the_topics_that_are_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[str, ...]] = []
    closed = [0]

    class ScriptedTail:
        def __init__(self, _kafka: Any, _namespace: str, topics: Any, _per_s: int) -> None:
            opened.append(tuple(topic.name for topic in topics))
            self._topic, self._read = topics[0], False

        def read(self, _timeout_s: float) -> tuple[list[TailRecord], int]:
            if self._read:
                return [], 0
            self._read = True
            rows = [TailRecord(self._topic, 0, at, 5, "", b"{}") for at in range(QUEUE * 2)]
            return rows, 1_000

        def close(self) -> None:
            closed[0] += 1

    monkeypatch.setattr(watching, "Tail", ScriptedTail)
    streams, portions = Streams(written, lambda: 7), list[int]()
    show = streams.show

    def noted(records: Any, passed: int) -> None:
        show(records, passed)
        portions.append(len(records))

    monkeypatch.setattr(streams, "show", noted)
    stop, thread = running(records_target(KafkaSettings(), "shop", streams))
    figures = streams.open(None, True, lambda: True)
    await asyncio.sleep(0.1)
    assert opened == []
    letters = streams.open(Choice(topic=DEAD_LETTERS.name), False, lambda: True)
    # In portions, so that a client that reads at once loses nothing of what came at once.
    await asyncio.to_thread(until, lambda: sum(portions) == QUEUE * 2)
    assert max(portions) <= QUEUE / 2
    streams.tick({})
    assert b'"shown":400,"of":1000' in letters.take()
    everything = streams.open(Choice(), False, lambda: True)
    await asyncio.to_thread(until, lambda: len(opened) == 2)
    for stream in (figures, letters, everything):
        streams.close(stream)
    await asyncio.to_thread(until, lambda: closed[0] == 2)
    assert opened[0] == (DEAD_LETTERS.name,) and len(opened[1]) > 5
    stop.set()
    await asyncio.to_thread(thread.join, 30)
