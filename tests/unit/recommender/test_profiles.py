from dataclasses import asdict

import pytest

from slipstream.recommender.profiles import PROFILES, networks, transformer_parameters
from tests.unit.models.logs import log_of


@pytest.mark.parametrize(
    ("items", "dropout", "weight_decay", "ahead", "unnamed"),
    [
        pytest.param(100, 0.4, 0.3, 0.15, 0.2, id="ten events an item"),
        pytest.param(20, 0.34, 0.126, 0.06, 0.08, id="fifty"),
    ],
)
def test_a_network_of_few_events_an_item_is_held_back(
    items: int, dropout: float, weight_decay: float, ahead: float, unnamed: float
) -> None:
    log = log_of([[place % items for place in range(10)]] * 100, items)
    found = asdict(transformer_parameters(PROFILES["fast"], log))
    assert found["dropout"] == pytest.approx(dropout)
    assert found["weight_decay"] == pytest.approx(weight_decay)
    assert (found["ahead"], found["unnamed"]) == pytest.approx((ahead, unnamed))
    assert networks(PROFILES["fast"], log) == 1
    assert networks(PROFILES["best"], log) == (2 if items == 100 else 1)
