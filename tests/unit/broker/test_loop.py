"""Commits and metrics of consumer loops. Reading itself is tested with a broker."""

import pytest

from slipstream.broker import loop as module
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import consume, read_to_end
from slipstream.broker.records import Batch, MalformedMessage, Message, TracedRecords
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.logging import TracedId, carrying, request_id
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.topics import INTERACTIONS
from tests.spans import traces_of
from tests.unit.broker.scripted import SOURCE, ScriptedConsumer


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test")


def sample(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"slipstream_{name}", {"topic": SOURCE.topic})


def a_message(offset: int) -> Message[Interaction]:
    event = Interaction(
        event_id=f"e{offset}",
        event_type="view",
        user_id="ada",
        item_id="i",
        timestamp=1,
        received_at=1,
    )
    return Message(SOURCE, offset, "ada", event, f"r-{offset}")


def test_consume_commits_after_handling_and_tells_records_malformed_ones_and_lag(
    metrics: Metrics,
) -> None:
    bad = MalformedMessage(SOURCE, 2, b"{", "not JSON", "r-2")
    batch = Batch([a_message(0), a_message(1)], [bad], {SOURCE: 3})
    consumer = ScriptedConsumer(batch)
    consumer.end = 12
    handled: list[tuple[Batch, int]] = []

    consume(
        consumer,
        lambda it: handled.append((it, len(consumer.committed))),
        consumer.stop,
        ConsumerWatch(metrics),
    )  # type: ignore[arg-type]
    assert handled == [(batch, 0)]
    assert consumer.committed == [{SOURCE: 3}]
    assert consumer.closed
    names = ("consumed_records_total", "malformed_records_total", "consumer_lag_records")
    assert [sample(metrics, name) for name in names] == [2, 1, 12]


def test_consume_leaves_the_group_and_commits_nothing_when_handling_fails(metrics: Metrics) -> None:
    consumer = ScriptedConsumer(Batch([a_message(0)]))

    def fail(_: Batch) -> None:
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        consume(consumer, fail, consumer.stop, ConsumerWatch(metrics))  # type: ignore[arg-type]
    assert (consumer.committed, consumer.closed) == ([], True)


def test_consume_rests_after_a_batch_unless_more_is_likely_to_wait(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKLOG", 2)
    consumer = ScriptedConsumer(
        Batch([a_message(0)]), Batch(), Batch([a_message(1), a_message(2)]), Batch([a_message(3)])
    )
    rests: list[tuple[float, int]] = []
    monkeypatch.setattr(
        consumer.stop, "wait", lambda seconds: rests.append((seconds, len(consumer.committed)))
    )

    consume(consumer, lambda _: None, consumer.stop, ConsumerWatch(metrics), rest_s=7.0)  # type: ignore[arg-type]
    assert rests == [(7.0, 1), (7.0, 3)], (
        "after the first and the last batch, and after their commits"
    )


def test_consume_tells_once_that_what_the_topic_held_at_the_start_is_handled(
    metrics: Metrics,
) -> None:
    consumer = ScriptedConsumer(Batch([a_message(0)]), Batch([a_message(1)]), Batch())
    consumer.end = 1
    told: list[str] = []

    def handle(batch: Batch) -> None:
        consumer.position += len(batch.messages)
        told.append("batch")

    consume(
        consumer,
        handle,
        consumer.stop,
        ConsumerWatch(metrics),
        at_end=lambda: told.append("end"),
        each_turn=lambda: told.append("turn"),
    )  # type: ignore[arg-type]
    assert told == ["batch", "end", "turn", "batch", "turn", "turn"]


def test_what_the_topic_held_at_the_start_is_not_traced_again(metrics: Metrics) -> None:
    traces = traces_of(metrics)

    def of_a_traced_request(offset: int) -> Batch:
        rid = TracedId("r", f"00-{'a' * 32}-{'b' * 16}-01")
        known = TracedRecords(rid, SOURCE, offset, 1)
        return Batch([a_message(offset)], traced={rid.traceparent: known})

    consumer = ScriptedConsumer(*map(of_a_traced_request, range(3)))
    consumer.end = 2

    def handle(batch: Batch) -> None:
        consumer.position += len(batch.messages)

    watch = ConsumerWatch(metrics)
    consume(consumer, handle, consumer.stop, watch, at_end=lambda: None)  # type: ignore[arg-type]
    offsets = [(span.attributes or {})["messaging.kafka.offset"] for span in traces.spans]
    assert offsets == [2]


def test_a_topic_is_read_up_to_its_end_and_a_silent_broker_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = ScriptedConsumer(Batch([a_message(0)]), Batch(), Batch([a_message(1)]))
    consumer.end = 2
    monkeypatch.setattr(module, "Consumer", lambda *_, **__: consumer)
    read = []
    for batch in read_to_end(KafkaSettings(), "shop", INTERACTIONS):
        consumer.position += len(batch.messages)
        read += [message.offset for message in batch.messages]
    assert (read, consumer.closed) == ([0, 1], True)
    consumer.end = 3
    with pytest.raises(BrokerUnavailableError, match=r"does not send interactions\.v1"):
        next(read_to_end(KafkaSettings(), "shop", INTERACTIONS, patience_s=0.01))


def test_carrying_ends_with_its_block_whatever_happens() -> None:
    with carrying("outer"):
        with pytest.raises(ValueError, match="odd"), carrying("inner"):
            assert request_id.get() == "inner"
            raise ValueError("odd")
        assert request_id.get() == "outer"
    assert request_id.get() == ""
