import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.events import Interaction
from slipstream.features import item, visitor
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.stores import layout
from slipstream.stores.layout import Keys, LayoutError, TrendingState
from tests.unit.features.strategies import interactions

APPLIED = st.dictionaries(
    st.builds(lambda topic, partition: f"{topic}:{partition}", st.sampled_from(["0198-ab", "x:y"]), st.integers(0, 300)),
    st.integers(0, 2**50),
)


@given(st.lists(interactions(), min_size=1, max_size=30), APPLIED)
def test_visitor_survives_encoding(events: list[Interaction], applied: dict[str, int]) -> None:
    state = visitor.fold_all(None, events)
    state.applied = applied
    assert layout.decode_visitor(layout.encode_visitor(state, layout.new_revision())) == state


@given(st.lists(interactions(), min_size=1, max_size=30), APPLIED)
def test_item_survives_encoding(events: list[Interaction], applied: dict[str, int]) -> None:
    state = item.fold_all(None, events)
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


@pytest.mark.parametrize("value", [b"12345678", b"12345678\x03rest", b"12345678\x02not deflated", b""])
def test_bytes_of_another_format_are_refused(value: bytes) -> None:
    with pytest.raises(LayoutError):
        layout.decode_visitor(value)


def test_value_of_another_kind_is_refused() -> None:
    with pytest.raises(LayoutError, match="expected 10 parts"):
        layout.decode_visitor(layout.encode_trending(TrendingState(), layout.new_revision()))


def test_visitor_with_50_events_on_ten_character_ids_fits_into_a_kilobyte() -> None:
    sequence = [SequenceEvent(f"B{n * 7_919_993 % 10**9:09d}", "view", 1_790_000_000_000 + n * 41_077, None) for n in range(50)]
    first, last = sequence[0].timestamp, sequence[-1].timestamp
    state = VisitorState(sequence, {"view": 50}, first, last, {f"{'0198ab' * 6}:11": 10**6}, {"view": last})
    # Redis adds about 80 bytes for the key and its entry.
    assert len(layout.encode_visitor(state, layout.new_revision())) < 1024 - 80


def test_only_the_trending_keys_share_a_hash_tag() -> None:
    keys = Keys("shop")
    assert keys.trending.split("}")[0] == keys.trending_scores.split("}")[0] == "{shop:trending"
    assert (keys.visitor("a"), keys.item("a"), keys.catalog("item", "a")) == (
        "shop:visitor:a",
        "shop:item:a",
        "shop:catalog:item:a",
    )
