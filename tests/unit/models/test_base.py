import pytest

from slipstream.models.base import EventWeights


@pytest.mark.parametrize(
    ("event_type", "weight"),
    [
        ("view", 1),
        ("click", 1),
        ("cart", 2),
        ("purchase", 3),
        ("impression", 0),
        ("search", 0),
        ("remove", 0),
        ("zoom", 1),
    ],
)
def test_weight_of_an_event_type(event_type: str, weight: float) -> None:
    assert EventWeights().weight(event_type) == weight


@pytest.mark.parametrize(
    ("value", "weight"), [(5.0, 1), (2.5, 0.5), (0.0, 0), (-1.0, 0), (9.0, 1), (None, 1)]
)
def test_a_rating_counts_by_its_value_where_there_is_a_scale(
    value: float | None, weight: float
) -> None:
    assert EventWeights(rating_scale=5.0).weight("rate", value) == weight
    assert EventWeights().weight("rate", value) == 1
