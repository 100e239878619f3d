"""The gate's rule as a table of cases."""

import pytest

from services.training.gate import Champion, Comparison, decide
from services.training.settings import GateSettings
from slipstream.evaluation.significance import Interval

SETTINGS = GateSettings(margin=0.0, tolerance=0.05, champion_max_age_hours=24, min_queries=20)


def against(value: float, low: float, high: float, queries: int = 100) -> Comparison:
    return Comparison(queries, 0.10 + value, 0.10, Interval(value, low, high))


BETTER = against(0.02, 0.01, 0.03)
UNSURE = against(0.002, -0.003, 0.007)
EQUAL = against(0.0, 0.0, 0.0)
WORSE = against(-0.03, -0.04, -0.02)
YOUNG, OLD = Champion("v1", 1.0), Champion("v1", 25.0)


@pytest.mark.parametrize(
    ("popularity", "champion", "against_champion", "outcome", "words"),
    [
        pytest.param(BETTER, None, None, "promoted", "no champion", id="first and better than popularity"),
        pytest.param(EQUAL, None, None, "promoted", "no champion", id="first and as good as popularity"),
        pytest.param(WORSE, None, None, "refused", "worse than popularity", id="first but worse than popularity"),
        pytest.param(BETTER, YOUNG, BETTER, "promoted", "surely better", id="surely better"),
        pytest.param(WORSE, YOUNG, BETTER, "refused", "worse than popularity", id="better than a bad champion only"),
        pytest.param(BETTER, YOUNG, UNSURE, "refused", "not surely better", id="unsure against a young champion"),
        pytest.param(BETTER, YOUNG, EQUAL, "refused", "not surely better", id="equal to a young champion"),
        pytest.param(BETTER, OLD, UNSURE, "promoted", "25 h old", id="unsure against an old champion"),
        pytest.param(BETTER, OLD, EQUAL, "promoted", "25 h old", id="equal to an old champion"),
        pytest.param(BETTER, OLD, WORSE, "refused", "as the champion is old", id="worse than an old champion"),
        pytest.param(BETTER, OLD, against(0.05, 0.01, 0.09, 19), "refused", "only 19", id="too few queries"),
        pytest.param(BETTER, YOUNG, None, "refused", "only 0", id="nothing to compare on"),
    ],
)
def test_decide(
    popularity: Comparison, champion: Champion | None, against_champion: Comparison | None, outcome: str, words: str
) -> None:
    decision = decide(popularity, champion, against_champion, SETTINGS)
    assert decision.outcome == outcome
    assert decision.promoted == (outcome == "promoted")
    assert words in decision.reason


def test_decide_improvement_below_margin_is_refused() -> None:
    asking_more = SETTINGS.model_copy(update={"margin": 0.2})  # a fifth of the champion's 0.10
    assert not decide(BETTER, YOUNG, BETTER, asking_more).promoted
    assert decide(BETTER, YOUNG, against(0.03, 0.021, 0.04), asking_more).promoted


def test_decide_tolerance_is_a_share_of_the_champions_figure() -> None:
    # 5 % of 0.10 is 0.005
    assert decide(BETTER, OLD, against(-0.001, -0.0049, 0.002), SETTINGS).promoted
    assert not decide(BETTER, OLD, against(-0.001, -0.0051, 0.002), SETTINGS).promoted


def test_decide_gives_every_number_it_used() -> None:
    numbers = decide(BETTER, YOUNG, UNSURE, SETTINGS).numbers
    assert numbers["champion_difference_low"] == -0.003
    assert numbers["champion_age_hours"] == 1.0
    assert numbers["popularity_ndcg@10"] == 0.10
    assert numbers["champion_queries"] == 100
