from dataclasses import asdict

import pytest

from slipstream.recommender.profiles import PROFILES, networks, transformer_parameters
from tests.unit.models.logs import log_of


@pytest.mark.parametrize(
    ("profile", "items", "dropout", "weight_decay", "ahead", "unnamed"),
    [
        pytest.param("best", 100, 0.4, 0.3, 0.15, 0.2, id="ten events an item, thirty epochs"),
        pytest.param("best", 20, 0.28, 0.126, 0.06, 0.08, id="fifty, thirty"),
        pytest.param("fast", 100, 0.2, 0.155, 0.075, 0.2, id="ten, ten epochs"),
    ],
)
def test_a_network_of_few_events_an_item_and_many_epochs_is_held_back(
    profile: str, items: int, dropout: float, weight_decay: float, ahead: float, unnamed: float
) -> None:
    log = log_of([[place % items for place in range(10)]] * 100, items)
    found = asdict(transformer_parameters(PROFILES[profile], log))
    assert found["dropout"] == pytest.approx(dropout)
    assert found["weight_decay"] == pytest.approx(weight_decay)
    assert (found["ahead"], found["unnamed"]) == pytest.approx((ahead, unnamed))


def test_a_second_network_is_for_few_events_an_item_in_profile_best() -> None:
    for items, expected in ((100, 2), (20, 1)):
        log = log_of([[place % items for place in range(10)]] * 100, items)
        assert networks(PROFILES["best"], log) == expected
        assert networks(PROFILES["fast"], log) == 1
