"""What loops tell of their reading; the reading itself is tested on the real wire."""

import threading
from typing import Any

import pytest

from slipstream.broker import consumer as module
from slipstream.broker.consumer import Batch, LagGauge, Malformed, Message, Source, carrying, consume
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import request_id
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import Interaction

SOURCE = Source("interactions.v1", "t", 0)


class Scripted:
    """Gives `batches`, then sets `stop`; says that it is `behind`."""

    def __init__(self, *batches: Batch) -> None:
        self.batches, self.stop = list(batches), threading.Event()
        self.behind: dict[str, int] | None = {SOURCE.topic: 0}
        self.committed: list[Any] = []
        self.closed = False

    def poll(self, timeout_s: float) -> Batch:
        if len(self.batches) <= 1:
            self.stop.set()
        return self.batches.pop(0) if self.batches else Batch()

    def commit(self, next_offsets: Any) -> bool:
        self.committed.append(next_offsets)
        return True

    def lag(self) -> dict[str, int] | None:
        return self.behind

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test")


def told(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"slipstream_{name}", {"topic": SOURCE.topic})


def a_message(offset: int) -> Message[Interaction]:
    event = Interaction(event_id=f"e{offset}", event_type="view", user_id="ada", item_id="i", timestamp=1, received_at=1)
    return Message(SOURCE, offset, "ada", event, f"r-{offset}")


def test_lag_gauge_follows_the_consumer_every_few_seconds(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    consumer = Scripted()
    gauge = LagGauge(consumer, metrics)  # type: ignore[arg-type]
    values = []
    # None: the broker did not answer
    for now[0], behind in ((100.0, 5), (104.9, 6), (105.0, 7), (106.0, 8), (110.1, None), (115.2, 0)):
        consumer.behind = None if behind is None else {SOURCE.topic: behind}
        gauge.update()
        values.append(told(metrics, "consumer_lag_records"))
    assert values == [5, 5, 7, 7, 7, 0]


def test_consume_commits_after_handling_and_tells_records_malformed_ones_and_lag(metrics: Metrics) -> None:
    bad = Malformed(SOURCE, 2, b"{", "not JSON", "r-2")
    batch = Batch([a_message(0), a_message(1)], [bad], {SOURCE: 3})
    consumer = Scripted(batch)
    consumer.behind = {SOURCE.topic: 12}
    handled: list[tuple[Batch, int]] = []

    consume(consumer, lambda it: handled.append((it, len(consumer.committed))), consumer.stop, metrics=metrics)  # type: ignore[arg-type]
    assert handled == [(batch, 0)]
    assert consumer.committed == [{SOURCE: 3}]
    assert consumer.closed
    names = ("consumed_records_total", "malformed_records_total", "consumer_lag_records")
    assert [told(metrics, name) for name in names] == [2, 1, 12]


def test_consume_leaves_the_group_and_commits_nothing_when_handling_fails(metrics: Metrics) -> None:
    consumer = Scripted(Batch([a_message(0)]))

    def fail(_: Batch) -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        consume(consumer, fail, consumer.stop, metrics=metrics)  # type: ignore[arg-type]
    assert (consumer.committed, consumer.closed) == ([], True)


def test_consume_rests_after_a_batch_unless_more_is_likely_to_wait(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BACKLOG", 2)
    consumer = Scripted(Batch([a_message(0)]), Batch(), Batch([a_message(1), a_message(2)]), Batch([a_message(3)]))
    rests: list[tuple[float, int]] = []
    monkeypatch.setattr(consumer.stop, "wait", lambda seconds: rests.append((seconds, len(consumer.committed))))

    consume(consumer, lambda _: None, consumer.stop, metrics=metrics, rest_s=7.0)  # type: ignore[arg-type]
    assert rests == [(7.0, 1), (7.0, 3)], "after the first and the last batch, and after their commits"


def test_carrying_ends_with_its_block_whatever_happens() -> None:
    with carrying("outer"):
        with pytest.raises(ValueError, match="odd"), carrying("inner"):
            assert request_id.get() == "inner"
            raise ValueError("odd")
        assert request_id.get() == "outer"
    assert request_id.get() == ""


def test_reader_that_never_learns_where_to_begin_is_given_up(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    consumer = Scripted()
    gauge = LagGauge(consumer, metrics)  # type: ignore[arg-type]
    consumer.behind = None
    gauge.update()
    now[0] = 106.0
    with pytest.raises(BrokerUnavailableError):
        gauge.update()
