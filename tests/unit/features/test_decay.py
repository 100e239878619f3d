import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.features import decay

HALF_LIFE = 86_400_000.0
NOW = 1_790_000_000_000


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.integers(0, 10 * 86_400_000)), min_size=1, max_size=30
    )
)
def test_value_is_the_sum_of_decayed_weights(events: list[tuple[float, int]]) -> None:
    mass = None
    for weight, age in events:
        mass = decay.add(mass, weight, NOW - age, HALF_LIFE)
    due = sum(weight * 2 ** (-age / HALF_LIFE) for weight, age in events)
    assert decay.value(mass, NOW, HALF_LIFE) == pytest.approx(due, rel=1e-8)


def test_nothing_is_worth_nothing_and_weighs_nothing() -> None:
    assert decay.add(None, 0.0, NOW, HALF_LIFE) is None
    assert decay.value(None, NOW, HALF_LIFE) == 0.0
    assert decay.join(None, 3.0) == decay.join(3.0, None) == 3.0


def test_value_long_before_the_event_is_large_but_finite() -> None:
    assert 0 < decay.value(decay.add(None, 1.0, NOW, 1_000.0), 0, 1_000.0) < float("inf")
