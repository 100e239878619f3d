"""Reads of feature views: cached features are those that would be computed, no view is missed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.features.reads.view_reads import VISITOR, Entities, ItemReads, view_reads
from slipstream.contracts.events import Interaction
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.features import item, visitor
from slipstream.features.item import FEATURES, ItemState, item_features
from slipstream.features.views import declare
from tests.unit.features.strategies import START, interactions

NAMES = tuple(FEATURES)


@given(
    st.lists(
        st.tuples(
            st.lists(interactions(), min_size=1, max_size=8), st.integers(-2 * HOUR_MS, 40 * DAY_MS)
        ),
        max_size=6,
    ),
    st.integers(1, 3),
)
def test_cached_features_are_those_of_the_state_and_the_moment(
    reads: list[tuple[list[Interaction], int]], size: int
) -> None:
    compute = ItemReads(size)
    states = [item.fold_all(None, events) for events, _ in reads]
    moments = sorted(START + after for _, after in reads)
    for now in [*moments, *moments]:
        for number, state in enumerate(states):
            for names in (NAMES, ("views", "popularity"), ("events_1d",)):
                read = compute(
                    f"i{number % 2}", Entities({}, {f"i{number % 2}": state}), now, names
                )
                assert read == item_features(state, now, names)


def test_a_state_that_was_written_is_computed_anew() -> None:
    compute, now = ItemReads(), START + DAY_MS
    before = ItemState(counts={"view": 1}, first_seen=START, last_seen=START)
    after = ItemState(counts={"view": 2}, first_seen=START, last_seen=START)
    for state, views in ((before, 1.0), (after, 2.0), (before, 1.0)):
        assert compute("i", Entities({}, {"i": state}), now, ("views",)) == {"views": views}


def test_every_declared_view_is_read_with_every_feature() -> None:
    now = START + HOUR_MS
    seen = [
        Interaction(
            event_id="e",
            event_type="view",
            user_id="u",
            item_id="i",
            timestamp=START,
            received_at=START,
        ),
        Interaction(
            event_id="f",
            event_type="cart",
            user_id="u",
            item_id="j",
            timestamp=START + 9,
            received_at=START,
        ),
    ]
    attributes = {"i": {"category": "shoes", "price": 10.0}}
    entities = Entities(
        {"u": visitor.fold_all(None, seen)}, {"i": item.fold_all(None, seen[:1])}, attributes
    )
    reads = view_reads(declare(["category", "colour"]))
    assert VISITOR.name in reads
    for read in reads.values():
        rows = {"user_id": ["u"], "item_id": ["i"]}
        (key,) = read.keys(rows, [0])
        features = read.compute(key, entities, now, read.view.feature_names)
        assert set(read.view.feature_names) <= set(features), read.view.name
        kinds = {"Int64": (int, float), "Float64": (int, float), "String": str}
        for name, dtype in read.dtypes.items():
            assert isinstance(features[name], kinds.get(dtype, (list, tuple))), (
                read.view.name,
                name,
            )


def test_a_view_that_nothing_computes_is_an_error() -> None:
    registry = declare()
    unknown = replace(registry.views[0], name="weather")
    with pytest.raises(KeyError, match="weather"):
        view_reads(replace(registry, views=(*registry.views, unknown)))
