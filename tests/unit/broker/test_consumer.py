"""Fetches at rest, and topics that are read once a second, on a scripted client."""

from typing import Any

import pytest
from kafka import TopicPartition

from slipstream.broker import consumer as module
from slipstream.broker.consumer import GroupDescription, Pace, Partition

CLICKS, SLATES = TopicPartition("clicks", 0), TopicPartition("slates", 0)


class Client:
    """A client that notes its calls, and returns what it is given."""

    def __init__(self) -> None:
        self.wait_ms = 0
        self.timeout_ms = 0.0
        self.passed_over = False
        self.next: dict[TopicPartition, list[str]] = {}

    def hold_fetches(self, wait_ms: int) -> None:
        self.wait_ms = wait_ms

    def pass_over(self, topics: set[str], passed_over: bool) -> None:
        assert topics == {"slates"}
        self.passed_over = passed_over

    def poll(self, timeout_ms: float) -> dict[TopicPartition, list[str]]:
        self.timeout_ms = timeout_ms
        return self.next


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def polled(pace: Pace, client: Client, **records: int) -> Any:
    client.next = {TopicPartition(topic, 0): ["…"] * size for topic, size in records.items()}
    return pace.poll(100)


@pytest.mark.parametrize(("set_ms", "at_rest_ms"), [(20, 200), (250, 500)])
def test_fetches_are_held_for_longer_after_ten_seconds_without_a_record(
    clock: Clock, set_ms: int, at_rest_ms: int
) -> None:
    client = Client()
    pace = Pace(client, set_ms, set())  # type: ignore[arg-type]
    polled(pace, client)
    assert (client.wait_ms, client.timeout_ms) == (set_ms, 100)
    clock.now += 9
    assert polled(pace, client, clicks=1) == {CLICKS: ["…"]}
    clock.now += 9
    polled(pace, client)
    assert (client.wait_ms, client.timeout_ms) == (set_ms, 100)
    clock.now += 1
    polled(pace, client)
    assert client.wait_ms == at_rest_ms < client.timeout_ms
    polled(pace, client, clicks=1)
    polled(pace, client)
    assert (client.wait_ms, client.timeout_ms) == (set_ms, 100)


def test_an_unhurried_topic_is_read_once_a_second_unless_more_wait(clock: Clock) -> None:
    client = Client()
    pace = Pace(client, 20, {"slates"})  # type: ignore[arg-type]
    polled(pace, client, clicks=3)
    assert not client.passed_over
    polled(pace, client, slates=1_000)
    assert not client.passed_over
    polled(pace, client, slates=1, clicks=1)
    assert client.passed_over
    clock.now += 0.9
    polled(pace, client, clicks=1)
    assert client.passed_over
    clock.now += 0.1
    polled(pace, client)
    assert not client.passed_over


def test_unhurried_records_do_not_end_a_rest(clock: Clock) -> None:
    client = Client()
    pace = Pace(client, 20, {"slates"})  # type: ignore[arg-type]
    clock.now += 11
    polled(pace, client, slates=1)
    polled(pace, client)
    assert client.wait_ms == 200
    polled(pace, client, slates=1, clicks=1)
    polled(pace, client)
    assert client.wait_ms == 20


ALL = [(topic, number) for topic in ("a", "b") for number in range(3)]


@pytest.mark.parametrize(
    ("members", "assigned", "full"),
    [
        (2, ALL, True),
        (9, ALL[:-1], False),
        (0, [], False),
        (3, None, False),
        (4, None, True),
    ],
)
def test_a_group_is_full_when_a_member_may_have_no_partition(
    members: int, assigned: list[Partition] | None, full: bool
) -> None:
    reported = None if assigned is None else frozenset(assigned)
    assert GroupDescription(members, reported).is_full(ALL) is full
