"""Recreated topics, leader epochs of what a consumer has read, and faults of its logs."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition

from slipstream.broker import log_changes
from slipstream.broker.consumer import Consumer
from slipstream.broker.log_changes import (
    UNKNOWN,
    Epochs,
    EpochSpan,
    FaultKind,
    Incarnations,
    LogFault,
    LogFaults,
    spans_of,
)
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import INTERACTIONS

PLACE = Source(INTERACTIONS.name, "id", 3)


def test_offsets_of_lost_records_are_left_out_once_the_log_has_parted_from_them() -> None:
    incarnations = Incarnations(KafkaSettings(), None, {"t": INTERACTIONS})  # type: ignore[arg-type]
    incarnations.ids = {"t": "id"}
    after = PLACE.since(5)
    assert list(incarnations.by_partition({PLACE: 20}).values()) == [20]
    assert list(incarnations.by_partition({after: 12, PLACE: 20}).values()) == [12]
    assert incarnations.by_partition({PLACE: 25}) == {}
    assert list(incarnations.by_partition({after.since(8): 9, after: 30}).values()) == [9]
    assert incarnations.by_partition({Source(INTERACTIONS.name, "other", 3): 1}) == {}


def test_ids_are_known_once_every_topic_was_found_since_the_last_rebalance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present: dict[str, str] = {}
    monkeypatch.setattr(log_changes, "topic_ids", lambda *_: present)
    client = SimpleNamespace(connections=set, topic_id=lambda _: "")
    incarnations = Incarnations(KafkaSettings(), client, {"t": INTERACTIONS})  # type: ignore[arg-type]

    def known() -> dict[str, str]:
        if incarnations.doubtful({}):
            incarnations.learn()
        return incarnations.known

    assert known() == {}, "the broker does not have the topic yet"
    present["t"] = "first"
    assert known() == {INTERACTIONS.name: "first"}
    incarnations.forget_offsets()
    assert incarnations.known == {}, "the id is that of before the rebalance"
    present["t"] = "second"
    assert known() == {INTERACTIONS.name: "second"}


AT = TopicPartition("t", 0)


class Fetched(NamedTuple):
    """What the library gives of a record, as far as it counts here."""

    offset: int
    leader_epoch: int | None


@pytest.mark.parametrize(
    ("records", "spans"),
    [
        ([(4, 2)], [(2, 4, 4)]),
        ([(4, 2), (5, 2), (9, 2)], [(2, 4, 9)]),
        ([(4, 2), (5, 2), (6, 3), (8, 7), (9, 7)], [(2, 4, 5), (3, 6, 6), (7, 8, 9)]),
        ([(4, None), (5, None)], [(UNKNOWN, 4, 5)]),
    ],
)
def test_records_of_one_epoch_in_a_row_are_a_span(
    records: list[tuple[int, int | None]], spans: list[tuple[int, int, int]]
) -> None:
    assert spans_of([Fetched(*record) for record in records]) == spans


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 2)), min_size=1, max_size=20), st.data()
)
def test_each_record_has_the_epoch_under_which_it_was_read_last(
    reads: list[tuple[int, int]], data: st.DataObject
) -> None:
    epochs, read, epoch, at = Epochs(), dict[int, int](), 0, 0
    for length, later in reads:
        epoch += later
        if later:  # an election, after which the log may part from what was read
            at = data.draw(st.integers(0, at))
        read = {offset: of for offset, of in read.items() if offset < at}
        read |= dict.fromkeys(range(at, at + length), epoch)
        epochs.note(AT, [EpochSpan(epoch, at, at + length - 1)])
        at += length
    assert {offset: epochs.before(AT, offset + 1) for offset in read} == read
    assert epochs.before(AT, 0) == UNKNOWN == epochs.before(TopicPartition("t", 1), 5)


@pytest.mark.parametrize("renewed", [True, False])
def test_a_position_left_while_its_topic_is_looked_up_is_no_fault_of_a_recreated_one(
    monkeypatch: pytest.MonkeyPatch, renewed: bool
) -> None:
    left: dict[TopicPartition, int] = {}
    ids = iter(["first", "second" if renewed else "first"])

    def looked_up(*_: object) -> dict[str, str]:
        # The library's thread fetches on meanwhile, and finds nothing at its position.
        found = next(ids)
        if consumer._incarnations.ids:
            left[AT] = 10
        return {"t": found}

    def displaced() -> dict[TopicPartition, int]:
        moved = left.copy()
        left.clear()
        return moved

    monkeypatch.setattr(log_changes, "topic_ids", looked_up)
    consumer = object.__new__(Consumer)
    consumer._client = SimpleNamespace(  # type: ignore[assignment]
        assignment=lambda: {AT},
        beginnings=lambda places, _: dict.fromkeys(places, 0),
        displaced=displaced,
        seek_to_beginning=lambda *_: None,
    )
    topics = {"t": INTERACTIONS}
    consumer._incarnations = Incarnations(KafkaSettings(), consumer._client, topics)
    faults = consumer._faults = LogFaults(consumer._client, topics)
    for _ in range(2):
        consumer._learn_ids()
    if faults.suspect():
        faults.explain()
    truncated = LogFault(INTERACTIONS.name, 0, FaultKind.TRUNCATED)
    assert faults.take() == ([] if renewed else [truncated])
