import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.broker.records import (
    MalformedRecordError,
    decode,
    encode,
    headers_of,
    request_id_of,
)
from slipstream.contracts.events import Interaction, Slate, SlateItem, SlateItems
from slipstream.contracts.topics import CATALOG, INTERACTIONS, RECOMMENDATIONS

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
