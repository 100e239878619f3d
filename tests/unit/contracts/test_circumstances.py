"""Circumstances of slates: histories as columns, and forms that are not read."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.circumstances import FORM, Circumstances, RecordedHistory

events = st.lists(
    st.tuples(
        st.text("abc", min_size=1, max_size=3),
        st.sampled_from(["view", "cart"]),
        st.integers(0, 2**45),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=20,
)


@given(events)
def test_a_history_is_read_as_it_was_recorded(
    history: list[tuple[str, str, int, float | None]],
) -> None:
    columns = orjson.loads(orjson.dumps(RecordedHistory.columns(history)))
    assert RecordedHistory.model_validate(columns).events() == history


def test_a_type_that_all_events_have_and_values_that_none_has_are_not_repeated() -> None:
    columns = RecordedHistory.columns([("a", "view", 7, None), ("b", "view", 9, None)])
    assert columns == {"items": ["a", "b"], "types": ["view"], "times": [7, 2]}


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        RecordedHistory(items=["a", "b"], types=["view"], times=[1]).events()


def test_only_this_form_is_read() -> None:
    assert Circumstances.read({"form": FORM}).maker is None
    with pytest.raises(ValueError, match="form"):
        Circumstances.read({"form": FORM + 1})
