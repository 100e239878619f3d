import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.contracts.times import HOUR_MS
from slipstream.features import item, visitor
from slipstream.features.item import item_features
from slipstream.features.visitor import Covisit, SequenceEvent, VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import (
    REVISION_BYTES,
    Keys,
    LayoutError,
    MergeMarker,
    NewerLayoutError,
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


@pytest.mark.parametrize(
    "value", [b"12345678", b"12345678 text", b"12345678\x02not deflated", b"12345678\x00", b""]
)
def test_bytes_that_are_no_state_are_refused(value: bytes) -> None:
    with pytest.raises(LayoutError):
        layout.decode_visitor(value)


@pytest.mark.parametrize("own", [None, VisitorState(), visitor.fold_all(None, [event(START, "a")])])
@pytest.mark.parametrize("state", [None, VisitorState(applied={"t:0": 4})])
def test_marker_keeps_the_state_to_come_and_the_visitors_own(
    state: VisitorState | None, own: VisitorState | None
) -> None:
    marker = MergeMarker("ü", state, own)
    value = layout.encode_marker(marker, layout.new_revision())
    assert layout.decode_visitor_or_marker(value) == marker


@pytest.mark.parametrize("form", [4, 0x1F, 0xF2])
def test_state_of_a_later_format_is_told_from_a_damaged_one(form: int) -> None:
    value = layout.new_revision() + bytes([form]) + b"what a later version knows"
    for decode in (layout.decode_visitor_or_marker, layout.decode_item, layout.decode_trending):
        with pytest.raises(NewerLayoutError, match=f"format {form}"):
            decode(value)


def test_format_that_only_visitors_have_is_a_later_one_to_other_states() -> None:
    value = layout.encode_visitor(
        visitor.fold_all(None, [event(START, "a", "impression")]), layout.new_revision()
    )
    for decode in (layout.decode_item, layout.decode_trending):
        with pytest.raises(NewerLayoutError, match="format 3; this version knows those up to 2"):
            decode(value)


def test_value_of_another_kind_is_refused() -> None:
    with pytest.raises(LayoutError, match="expected 10 parts"):
        layout.decode_visitor(layout.encode_trending(TrendingState(), layout.new_revision()))


def test_visitor_in_the_first_format_is_read_with_empty_tiles() -> None:
    value = bytes.fromhex(
        "7265766973696f6e013d8dd10a83300c45ff25cf77a3b1754e7fa5f4a14a610319a3ea7c10ff6c6ffbb1c5742c90f49c9b40fd4686dbeb29f6d4790bc7"
        "0147d08a193461c746af7b5aa963d010f3ac90e39c149e4b1e6e712a32a52826f90e6e5af32f30d7951a3c4502f5d2c7fb7953807cc3a86095eca5dcb1"
        "71aed02f91ed631947e870e75a21842f"
    )
    sequence = [
        SequenceEvent("a", "view", START),
        SequenceEvent("b", "cart", START + HOUR_MS),
        SequenceEvent("a", "rate", START + 30 * HOUR_MS, 4.5),
        SequenceEvent("ü", "purchase", START + 31 * HOUR_MS),
    ]
    counts = {"view": 1, "cart": 1, "rate": 1, "purchase": 1, "search": 1}
    recent = {event.event_type: event.timestamp for event in sequence}
    last = START + 32 * HOUR_MS
    state = VisitorState(sequence, counts, START, last, {"0198-ab:3": 41, "0199:0": 7}, recent, [])
    assert layout.decode_visitor(value) == state
    assert layout.decode_visitor(layout.encode_visitor(state, layout.new_revision())) == state


def test_visitor_in_the_second_format_has_no_impressions_and_is_written_as_before() -> None:
    value = bytes.fromhex(
        "7265766973696f6e026d8a4b0ec2300c44ef32eb414a4c21385789bc48511759f0518b6051f5eeb84562d591fd2ccd73"
        "9911a25e0eb5472e4776d116ce78b7e1831c89767b8ec334b5c71d59886b1d5fde2f8c49c33f541654103d8c255036aa"
        "d347290c7ecb49cf6bb6f2a79cebabf9769a4464df494831ed29b32f"
    )
    state = layout.decode_visitor(value)
    assert (state.counts, state.impressions) == ({"view": 1, "impression": 2, "cart": 1}, [])
    assert written(layout.encode_visitor(state, layout.new_revision())) == written(value)


def test_only_visitors_with_impressions_are_written_in_the_third_format() -> None:
    without = visitor.fold_all(None, [event(START), event(START + 1, None, "impression")])
    assert written(layout.encode_visitor(without, layout.new_revision()))[0] == 2
    shown = visitor.fold_all(without, [event(START + 2, "a", "impression")])
    assert written(layout.encode_visitor(shown, layout.new_revision()))[0] == 3


def written(value: bytes) -> tuple[int, bytes]:
    """The format of a value, and its JSON."""
    body = value[REVISION_BYTES + 1 :]
    return value[REVISION_BYTES], zlib.decompress(body, -zlib.MAX_WBITS)


def test_item_in_the_first_format_keeps_its_windows_but_not_their_types() -> None:
    state = layout.decode_item(
        bytes.fromhex(
            "7265766973696f6e013dc7410ac2301005d0bbccfa2b3393904972959045958059a8a5415d94debd15c1b77b652596144fd3857271f05237acf4eeed43"
            "5941fd3e2f6d8cfe7c5016d0fc5aaeb769b4231b34053d73348b3e88b7e00cc5275355281c432a8ab2891d95efc412ff4138fe5277"
        )
    )
    assert (state.counts, state.first_seen) == ({"view": 2, "impression": 1, "purchase": 1}, START)
    features = item_features(state, state.last_seen)
    assert (
        features["events_1d"],
        features["events_7d"],
        features["views_7d"],
        features["views"],
    ) == (1, 3, 0, 2)
    assert state.neighbours == {}


def test_trending_state_in_the_first_format_is_read() -> None:
    value = bytes.fromhex(
        "7265766973696f6e018bae562a51b28a36d6b188add53134b73480031d6333305bcf201600"
    )
    assert layout.decode_trending(value) == TrendingState({"t:3": 8}, START, 3.6e6)


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
