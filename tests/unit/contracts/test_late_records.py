"""Late records of erased visitors are left out by the times of their visitors' marks."""

from collections.abc import Collection, Mapping
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import CatalogRecord, Interaction, Record, Slate
from slipstream.contracts.late_records import (
    MARKED_MS,
    ErasureMark,
    visitor_digest,
    visitors_of,
    without_late,
)
from slipstream.contracts.slates import RecordedSlate, read_slate
from slipstream.contracts.topics import PERSONAL
from slipstream.contracts.vocabulary import MERGED_INTO

ERASED = {visitor_digest("ada"): ErasureMark(asked_at=100, slates_until=160)}


def event(user: str = "ada", at: int = 100, received: int = 100, device: str = "") -> Interaction:
    return Interaction(
        event_id="e",
        event_type="view",
        user_id=user,
        anonymous_id=device or None,
        timestamp=at,
        received_at=received,
    )


def slate(user: str, at: int) -> Slate:
    return Slate(
        recommendation_id="r", user_id=user, timestamp=at, items=[], answered_by="trending"
    )


def read(user: str, at: int) -> RecordedSlate:
    """A slate as a reader of the topic takes it."""
    return read_slate(slate(user, at).model_dump_json().encode())


def said(entity: str, name: str, at: int, **more: object) -> CatalogRecord:
    return CatalogRecord.model_validate(
        {"entity": entity, "entity_id": name, "timestamp": at, **more}
    )


def kept(*records: Record, marks: Mapping[str, ErasureMark] = ERASED) -> list[Record]:
    def marks_of(digests: Collection[str]) -> dict[str, ErasureMark]:
        return {digest: marks[digest] for digest in digests if digest in marks}

    return [each for (each,) in without_late([(r,) for r in records], itemgetter(0), marks_of)]


@pytest.mark.parametrize(
    "record",
    [
        event(at=100, received=100),
        event(at=50, received=900),  # a client, or a replayed dead letter, sends it again
        event(at=900, received=100),  # a client's clock is ahead
        event("bob", at=100, device="ada"),
        slate("ada", 160),
        read("ada", 160),
        said("user", "ada", 100),
        said("identity", "ada", 100, attributes={MERGED_INTO: "bob"}),
        said("identity", "phone", 100, attributes={MERGED_INTO: "ada"}),
    ],
)
def test_it_leaves_out_what_was_made_before_the_erasure(record: Record) -> None:
    assert kept(record) == []


@pytest.mark.parametrize(
    "record",
    [
        event(at=101, received=101),
        event("bob", at=1),
        slate("ada", 161),
        read("ada", 161),
        slate("bob", 1),
        said("user", "ada", 101),
        said("user", "ada", 1, deleted=True),  # a request to erase
        said("item", "ada", 1),
        said("identity", "phone", 101, attributes={MERGED_INTO: "ada"}),
    ],
)
def test_it_keeps_what_was_made_later_or_by_others(record: Record) -> None:
    assert kept(record) == [record]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.booleans())),
    st.dictionaries(st.sampled_from("abc"), st.tuples(st.integers(0, 9), st.integers(0, 9))),
)
def test_each_record_is_judged_by_its_own_visitor_and_the_order_stays(
    made: list[tuple[str, int, bool]], erased: dict[str, tuple[int, int]]
) -> None:
    records = [slate(name, at) if is_slate else event(name, at, at) for name, at, is_slate in made]
    marks = {visitor_digest(name): ErasureMark(*times) for name, times in erased.items()}
    expected = [
        record
        for record, (name, at, is_slate) in zip(records, made, strict=True)
        if name not in erased or at > erased[name][is_slate]
    ]
    assert kept(*records, marks=marks) == expected


def test_a_visitor_is_marked_for_longer_than_any_topic_keeps_its_records() -> None:
    assert all((topic.retention_ms or 0) < MARKED_MS for topic in PERSONAL)


def test_a_digest_does_not_contain_the_id() -> None:
    assert "ada" not in visitor_digest("ada") and len(visitor_digest("ada")) == 32
    assert visitors_of(said("item", "i", 1)) == ()
