from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker.records import (
    Batch,
    MalformedRecordError,
    decode,
    encode,
    headers_of,
    request_id_of,
    traced,
)
from slipstream.chassis.logging import TracedId
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import Interaction, Slate, SlateItem, SlateItems
from slipstream.contracts.positions import Source
from slipstream.contracts.topics import CATALOG, INTERACTIONS, RECOMMENDATIONS
from tests.spans import parent_of, place_of, traces_of

ids = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1, max_size=60
)
millis = st.integers(0, 4_000_000_000_000)
interactions = st.builds(
    Interaction,
    event_id=ids,
    event_type=st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    user_id=ids,
    item_id=st.none() | ids,
    timestamp=millis,
    received_at=millis,
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    position=st.none() | st.integers(0, 1_000),
    properties=st.dictionaries(
        st.text(max_size=8),
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
        max_size=3,
    ),
)


@given(interactions)
def test_record_survives_the_wire(interaction: Interaction) -> None:
    assert decode(INTERACTIONS, encode(interaction)) == interaction


@given(st.lists(st.tuples(ids, st.floats(-1e6, 1e6), st.sampled_from(["ease", "ümlaut"]))))
def test_items_that_know_their_json_are_the_bytes_of_any_others(
    rows: list[tuple[str, float, str]],
) -> None:
    items = [SlateItem(*row) for row in rows]
    plain, sharing = (
        Slate.of_checked(
            recommendation_id="r", user_id="u", timestamp=1, items=each, answered_by="model"
        )
        for each in (items, SlateItems(items))
    )
    assert encode(sharing) == encode(plain)
    assert decode(RECOMMENDATIONS, encode(sharing)) == plain


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"event_id": "1"}', b"\xff\xfe"])
def test_bytes_that_are_no_record_are_malformed_with_a_reason(value: bytes | None) -> None:
    with pytest.raises(MalformedRecordError) as caught:
        decode(INTERACTIONS, value)
    assert str(caught.value)


def test_reason_names_the_field() -> None:
    with pytest.raises(MalformedRecordError, match="entity_id"):
        decode(CATALOG, b'{"entity": "item", "timestamp": 1}')


def test_request_id_travels_in_a_header() -> None:
    assert request_id_of(headers_of("r-1")) == "r-1"
    assert request_id_of(headers_of("")) == ""


PLACES = [f"00-{'a' * 32}-{digit * 16}-01" for digit in "bc"]
SOURCE = Source(INTERACTIONS.name, "topic-id", 3)


def polled(*headers: list[tuple[str, bytes]]) -> Batch:
    """A batch of a record for each list of headers; the last record is malformed."""
    event = Interaction(
        event_id="e", event_type="view", user_id="ada", item_id="i", timestamp=1, received_at=1
    )
    batch = Batch()
    records: list[Any] = [
        SimpleNamespace(
            offset=offset, key=b"ada", value=encode(event), headers=each, leader_epoch=0
        )
        for offset, each in enumerate(headers)
    ]
    records[-1].value = b"{"
    batch.add(INTERACTIONS, SOURCE, records)
    return batch


def test_only_a_traced_request_has_a_second_header_and_consumers_get_its_place() -> None:
    assert [name for name, _ in headers_of("r-1")] == ["request_id"]
    first, second = (TracedId("r-1", place) for place in PLACES)
    batch = polled(*map(headers_of, (first, "r-1", second, first, first)))
    ids = [each.request_id for each in (*batch.messages, *batch.malformed)]
    assert ids == ["r-1"] * 5
    assert [getattr(rid, "traceparent", None) for rid in ids] == [
        PLACES[0], None, PLACES[1], PLACES[0], PLACES[0],
    ]  # fmt: skip
    assert ids[0] is ids[3] is ids[4]
    assert [(it.offset, it.records) for it in batch.traced.values()] == [(0, 3), (2, 1)]


@pytest.mark.parametrize("value", [b"", b"00-1-2-01", b"\xff" * 55, b"0" * 300])
def test_a_header_that_names_no_place_is_ignored(value: bytes) -> None:
    batch = polled([("request_id", b"r-1"), ("traceparent", value)])
    assert (type(batch.malformed[0].request_id), batch.traced) == (str, {})


def test_work_on_a_batch_is_a_span_of_each_traced_request_and_what_follows_its_child() -> None:
    metrics = Metrics("probe")
    traces = traces_of(metrics)
    first, second = (
        TracedId(rid, place) for rid, place in zip(("r-1", "r-2"), PLACES, strict=True)
    )
    batch = polled(*map(headers_of, (first, "r-3", second, second)))
    with pytest.raises(ZeroDivisionError), traced(batch, metrics):
        assert traces.spans == ()
        sent = [each.request_id for each in batch.messages]
        raise ZeroDivisionError
    one, other = traces.spans
    assert [parent_of(one), parent_of(other)] == [place[36:52] for place in PLACES]
    assert [getattr(rid, "traceparent", None) for rid in sent] == [
        place_of(one), None, place_of(other),
    ]  # fmt: skip
    assert one.name == f"process {INTERACTIONS.name}"
    attributes = dict(other.attributes or {})
    assert attributes.pop("messaging.batch.message_count") == 2
    assert attributes.pop("messaging.kafka.offset") == 2
    assert attributes.pop("messaging.destination.partition.id") == "3"
    assert attributes.pop("slipstream.request_id") == "r-2"
    assert attributes.pop("error.type") == "ZeroDivisionError"
    assert not other.status.is_ok


def test_without_tracing_a_batch_keeps_the_places_of_its_requests() -> None:
    batch = polled(headers_of(TracedId("r-1", PLACES[0])), [])
    with traced(batch, Metrics("probe")):
        assert headers_of(batch.messages[0].request_id)[1] == ("traceparent", PLACES[0].encode())
