import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features import item, visitor
from slipstream.features.visitor import Covisit, VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import (
    REVISION_BYTES,
    Keys,
    LayoutError,
    MergeMarker,
    OtherFormatError,
    StateCache,
    TrendingState,
)
from tests.unit.features.strategies import START, event, interactions

APPLIED = st.dictionaries(
    st.builds(
        lambda topic, partition: f"{topic}:{partition}",
        st.sampled_from(["0198-ab", "x:y"]),
        st.integers(0, 300),
    ),
    st.integers(0, 2**50),
)


@given(st.lists(interactions(), min_size=1, max_size=30), st.integers(1, 8), APPLIED)
def test_visitor_survives_encoding(
    events: list[Interaction], times: int, applied: dict[str, int]
) -> None:
    state = visitor.fold_all(None, events * times)
    state.applied = applied
    assert layout.decode_visitor(layout.encode_visitor(state, layout.new_revision())) == state


@given(st.lists(interactions(), min_size=1, max_size=30), APPLIED)
def test_item_survives_encoding(events: list[Interaction], applied: dict[str, int]) -> None:
    pairs = [Covisit("a", each.event_id, each.timestamp) for each in events]
    state = item.fold_all(None, events, pairs)
    state.applied = applied
    assert layout.decode_item(layout.encode_item(state, layout.new_revision())) == state


def test_trending_state_survives_encoding() -> None:
    state = TrendingState({"t:3": 8}, 1_790_000_000_000, 3.6e6)
    assert layout.decode_trending(layout.encode_trending(state, layout.new_revision())) == state


def test_revision_is_what_a_value_was_written_with_and_empty_for_none() -> None:
    revision = layout.new_revision()
    assert layout.revision_of(layout.encode_visitor(VisitorState(), revision)) == revision

    assert layout.revision_of(None) == b""
    assert layout.new_revision() != revision


@pytest.mark.parametrize("merged", [{}, {"a": {"t:0": 3}}])
def test_a_state_tells_whether_it_has_been_a_user(merged: dict[str, dict[str, int]]) -> None:
    state = VisitorState(applied={"t:1": 2}, merged=merged, is_user=True)
    assert layout.decode_visitor(layout.encode_visitor(state, layout.new_revision())) == state


def test_damaged_state_is_told_from_one_of_another_version() -> None:
    with pytest.raises(LayoutError):
        layout.decode_visitor(b"12345678\x04not deflated")


@pytest.mark.parametrize("own", [None, VisitorState(), visitor.fold_all(None, [event(START, "a")])])
@pytest.mark.parametrize("state", [None, VisitorState(applied={"t:0": 4})])
def test_marker_keeps_the_state_to_come_and_the_visitors_own(
    state: VisitorState | None, own: VisitorState | None
) -> None:
    marker = MergeMarker("ü", state, own)
    value = layout.encode_marker(marker, layout.new_revision())
    assert layout.decode_visitor_or_marker(value) == marker


# What was written before this format, by another program, and by a version that is still to come.
@pytest.mark.parametrize(
    "rest", [b"\x01...", b"\x02...", b"\x03...", b"\xf0...", b"\xf1...", b" text", b"", b"\x06..."]
)
def test_value_in_any_other_format_is_refused(rest: bytes) -> None:
    value = layout.new_revision() + rest
    form = rest[:1].hex() or "missing"
    for decode in (layout.decode_visitor_or_marker, layout.decode_item, layout.decode_trending):
        with pytest.raises(OtherFormatError, match=f"format is {form}, not 04"):
            decode(value)


def test_value_of_another_kind_is_refused() -> None:
    with pytest.raises(LayoutError, match="expected 13 parts"):
        layout.decode_visitor(layout.encode_trending(TrendingState(), layout.new_revision()))


def test_only_the_trending_keys_share_a_hash_tag() -> None:
    keys = Keys("shop")
    assert keys.trending.split("}")[0] == keys.trending_scores.split("}")[0] == "{shop:trending"
    assert (keys.visitor("a"), keys.item("a"), keys.catalog("item", "a")) == (
        "shop:visitor:a",
        "shop:item:a",
        "shop:catalog:item:a",
    )


def value(revision: int, text: bytes) -> bytes:
    return bytes([revision] * REVISION_BYTES) + text


def test_a_value_is_decoded_once_for_each_revision() -> None:
    calls: list[bytes] = []

    def decode(raw: bytes) -> bytes:
        calls.append(raw)
        return raw[REVISION_BYTES:]

    cache = StateCache(decode, 10)
    assert [cache.state("a", value(1, b"x")) for _ in range(3)] == [b"x"] * 3
    assert cache.state("a", value(2, b"y")) == b"y"
    assert cache.state("b", value(2, b"z")) == b"z"
    assert cache.state("a", value(1, b"x")) == b"x"
    assert calls == [value(1, b"x"), value(2, b"y"), value(2, b"z"), value(1, b"x")]


def test_written_state_is_not_decoded_unless_the_write_was_lost() -> None:
    cache = StateCache(lambda raw: raw[REVISION_BYTES:], 10)
    cache.remember("a", bytes([3] * REVISION_BYTES), b"written")
    assert cache.state("a", value(3, b"not looked at")) == b"written"
    assert cache.state("a", value(4, b"another's")) == b"another's"


def test_cache_keeps_no_more_than_its_size() -> None:
    calls: list[bytes] = []
    cache = StateCache(calls.append, 2)
    for key in ("a", "b", "c", "b", "c", "a"):
        cache.state(key, value(1, key.encode()))
    assert [raw[REVISION_BYTES:] for raw in calls] == [b"a", b"b", b"c", b"a"]


def test_value_that_can_not_be_decoded_is_not_kept() -> None:
    def decode(raw: bytes) -> None:
        raise ValueError(raw)

    cache = StateCache(decode, 2)
    for _ in range(2):
        with pytest.raises(ValueError, match="x"):
            cache.state("a", value(1, b"x"))
