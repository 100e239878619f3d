import numpy as np
import pytest

from slipstream.models.base import EventWeights
from tests.unit.models.logs import log_of


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


def test_all_events_of_a_log_are_selected_without_a_copy_and_some_with_one() -> None:
    log = log_of([[0, 1], [2]], 3)
    for keep in (np.array([True, True, True]), np.arange(3)):
        assert np.shares_memory(log.select(keep).item, log.item)
    for keep in (np.array([False, True, True]), np.arange(1, 3)):
        assert log.select(keep).item.tolist() == [1, 2]
    assert log.select(np.array([True, False, True])).user.tolist() == [0, 1]
