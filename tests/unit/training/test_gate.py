"""The gate's rules as tables of cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.gate import (
    FAULTS,
    Comparison,
    Measurements,
    StandingChampion,
    decide,
    held_back,
)
from services.training.settings import GateSettings
from slipstream.evaluation.significance import Interval

SETTINGS = GateSettings(
    margin=0.0,
    tolerance=0.05,
    champion_max_age_hours=24,
    min_queries=20,
    cohort_min_queries=50,
    max_latency_ms=20,
    max_bundle_mb=10,
    max_hit_rate=0.9,
    min_coverage=0.5,
)


def against(value: float, low: float, high: float, queries: int = 100) -> Comparison:
    return Comparison(queries, 0.10 + value, 0.10, Interval(value, low, high))


BETTER = against(0.02, 0.01, 0.03)
UNSURE = against(0.002, -0.003, 0.007)
EQUAL = against(0.0, 0.0, 0.0)
WORSE = against(-0.03, -0.04, -0.02)
YOUNG, OLD = StandingChampion("v1", 1.0), StandingChampion("v1", 25.0)


def measured(
    popularity: Comparison = BETTER,
    champion: Comparison | None = BETTER,
    *,
    cohorts: dict[str, Comparison] | None = None,
    latency_p95_ms: float = 2.0,
    bundle_bytes: int = 1_000,
    items: int = 201,
    hit_rate: float = 0.3,
    coverage: float = 0.4,
    onset: int | None = None,
    listed: int = 0,
) -> Measurements:
    return Measurements(
        popularity,
        latency_p95_ms,
        bundle_bytes,
        cohorts or {},
        champion,
        champion_latency_p95_ms=1.5,
        visitors=60,
        items=items,
        hit_rate=hit_rate,
        coverage=coverage,
        champion_coverage=None if champion is None else 0.6,
        onset=onset,
        listed=listed,
    )


@pytest.mark.parametrize(
    ("popularity", "champion", "against_champion", "outcome", "words"),
    [
        pytest.param(
            BETTER, None, None, "promoted", "no champion", id="first and better than popularity"
        ),
        pytest.param(
            EQUAL, None, None, "promoted", "no champion", id="first and as good as popularity"
        ),
        pytest.param(
            WORSE,
            None,
            None,
            "refused",
            "worse than popularity",
            id="first but worse than popularity",
        ),
        pytest.param(
            BETTER, None, WORSE, "promoted", "no champion", id="a champion that does not stand"
        ),
        pytest.param(BETTER, YOUNG, BETTER, "promoted", "surely better", id="surely better"),
        pytest.param(
            WORSE,
            YOUNG,
            BETTER,
            "refused",
            "worse than popularity",
            id="better than a bad champion only",
        ),
        pytest.param(
            BETTER,
            YOUNG,
            UNSURE,
            "refused",
            "not surely better",
            id="unsure against a young champion",
        ),
        pytest.param(
            BETTER, YOUNG, EQUAL, "refused", "not surely better", id="equal to a young champion"
        ),
        pytest.param(
            BETTER, OLD, UNSURE, "promoted", "25 h old", id="unsure against an old champion"
        ),
        pytest.param(BETTER, OLD, EQUAL, "promoted", "25 h old", id="equal to an old champion"),
        pytest.param(
            BETTER, OLD, WORSE, "refused", "as the champion is old", id="worse than an old champion"
        ),
        pytest.param(
            BETTER, OLD, against(0.05, 0.01, 0.09, 19), "refused", "only 19", id="too few queries"
        ),
        pytest.param(
            BETTER,
            YOUNG,
            against(0.05, 0.01, 0.09, 20),
            "promoted",
            "surely better",
            id="just enough queries",
        ),
        pytest.param(BETTER, YOUNG, None, "refused", "only 0", id="nothing to compare on"),
    ],
)
def test_decide(
    popularity: Comparison,
    champion: StandingChampion | None,
    against_champion: Comparison | None,
    outcome: str,
    words: str,
) -> None:
    decision = decide(measured(popularity, against_champion), champion, SETTINGS)
    assert decision.outcome == outcome
    assert decision.promoted == (outcome == "promoted")
    assert words in decision.reason


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param(
            {"cohorts": {"new": against(-0.01, -0.03, 0.01, 50)}},
            "worse than popularity in cohort new: NDCG@10 0.0900",
        ),
        pytest.param({"cohorts": {"new": BETTER, "cold": WORSE}}, "in cohort cold"),
        pytest.param(
            {"latency_p95_ms": 20.1},
            "too slow: 20.1 ms of processor time a query at p95, the budget is 20 ms",
        ),
        pytest.param(
            {"bundle_bytes": 11 * 2**20}, "too large: a bundle of 11.0 MiB, the budget is 10 MiB"
        ),
        pytest.param(
            {"hit_rate": 0.91},
            "too good to be true: HR@10 0.910 in a catalogue of 201 items, above 0.9",
        ),
    ],
)
@pytest.mark.parametrize("champion", [None, YOUNG])
def test_decide_what_is_better_on_the_whole_is_refused_by_any_other_rule(
    champion: StandingChampion | None, changed: dict[str, object], words: str
) -> None:
    decision = decide(measured(**changed), champion, SETTINGS)  # type: ignore[arg-type]
    assert not decision.promoted
    assert words in decision.reason
    assert "surely" not in decision.reason and "no champion" not in decision.reason


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            {"cohorts": {"new": against(-0.03, -0.04, -0.02, 49)}},
            id="worse in a cohort that is small",
        ),
        pytest.param({"cohorts": {"cold": EQUAL}}, id="as good in a cohort"),
        pytest.param(
            {"latency_p95_ms": 20.0, "bundle_bytes": 10 * 2**20}, id="just within the budgets"
        ),
        pytest.param({"hit_rate": 1.0, "items": 200}, id="a high hit rate in a small catalogue"),
        pytest.param({"hit_rate": 0.9}, id="a high hit rate"),
        pytest.param({"coverage": 0.3}, id="half of the champion's coverage"),
    ],
)
def test_decide_what_is_not_against_it_does_not_count(changed: dict[str, object]) -> None:
    assert decide(measured(**changed), YOUNG, SETTINGS).promoted  # type: ignore[arg-type]


def test_decide_names_every_rule_that_refuses() -> None:
    bad = measured(
        WORSE,
        UNSURE,
        cohorts={"returning": WORSE},
        latency_p95_ms=99,
        bundle_bytes=2**30,
        hit_rate=0.95,
        coverage=0.2,
    )
    reasons = decide(bad, YOUNG, SETTINGS).reason.split("; ")
    assert [reason.split(":")[0] for reason in reasons] == [
        "worse than popularity",
        "worse than popularity in cohort returning",
        "too slow",
        "too large",
        "too good to be true",
        "fewer items shown",
        "not surely better than champion v1",
    ]


DIFFERENCES = st.floats(-0.05, 0.05)


@given(
    DIFFERENCES,
    DIFFERENCES,
    DIFFERENCES,
    st.floats(0, 30),
    st.integers(0, 2**24),
    st.floats(0, 0.05),
)
def test_decide_never_refuses_for_being_better(
    popularity: float, newcomers: float, champion: float, latency: float, size: int, gain: float
) -> None:
    def decided(more: float, less: float) -> bool:
        shifted = (
            against(value + more, value + more - 0.01, value + more + 0.01)
            for value in (popularity, champion, newcomers)
        )
        overall, of_champion, of_new = shifted
        result = measured(
            overall,
            of_champion,
            cohorts={"new": of_new},
            latency_p95_ms=latency * less,
            bundle_bytes=int(size * less),
        )
        return decide(result, YOUNG, SETTINGS).promoted

    assert decided(gain, 0.9) >= decided(0, 1)


def test_decide_improvement_below_margin_is_refused() -> None:
    asking_more = SETTINGS.model_copy(update={"margin": 0.2})  # a fifth of the champion's 0.10
    assert not decide(measured(), YOUNG, asking_more).promoted
    assert decide(measured(champion=against(0.03, 0.021, 0.04)), YOUNG, asking_more).promoted


def test_decide_tolerance_is_a_share_of_the_champions_figure() -> None:
    # 5 % of 0.10 is 0.005
    assert decide(measured(champion=against(-0.001, -0.0049, 0.002)), OLD, SETTINGS).promoted
    assert not decide(measured(champion=against(-0.001, -0.0051, 0.002)), OLD, SETTINGS).promoted


def test_decide_refuses_a_loss_of_the_tolerance_itself_and_takes_the_fewest_questions() -> None:
    a_quarter = SETTINGS.model_copy(update={"tolerance": 0.25})

    def decided(low: float, queries: int = 20) -> bool:
        compared = Comparison(queries, 1.0, 0.5, Interval(low + 0.01, low, low + 0.02))
        return decide(measured(champion=compared), OLD, a_quarter).promoted

    assert not decided(-0.125)  # a quarter of the champion's .5
    assert decided(-0.125 + 2**-20)
    assert not decided(-0.125 + 2**-20, queries=19)


def test_decide_coverage_that_falls_by_half_is_refused_and_is_no_fault_of_the_model_alone() -> None:
    decision = decide(measured(coverage=0.29), YOUNG, SETTINGS)
    assert decision.reason == (
        "fewer items shown: the lists of ten cover 29.0 % of the catalogue, those of champion v1 "
        "60.0 % for the same questions, and 30.0 % is the least"
    )
    assert decision.numbers[FAULTS] == 0  # it may stand in for a champion that is deleted
    assert decide(measured(coverage=0.29), None, SETTINGS).promoted
    later = StandingChampion("v2", 25.0, judged=False)
    assert "fewer items" not in decide(measured(coverage=0.29), later, SETTINGS).reason
    assert decide(measured(hit_rate=0.95), YOUNG, SETTINGS).numbers[FAULTS] == 1


def test_decide_gives_every_number_it_used() -> None:
    numbers = decide(measured(champion=UNSURE, cohorts={"new": WORSE}), YOUNG, SETTINGS).numbers
    assert numbers["champion/difference_low"] == -0.003
    assert numbers["champion/age_hours"] == 1.0
    assert numbers["popularity/other"] == 0.10
    assert numbers["popularity/new/challenger"] == pytest.approx(0.07)
    assert numbers["champion/queries"] == 100
    assert (
        numbers["latency_p95_ms"],
        numbers["champion/latency_p95_ms"],
        numbers["bundle_bytes"],
    ) == (2.0, 1.5, 1_000)
    names = ("visitors", "items", "hit_rate", "coverage", "champion/coverage")
    assert [numbers[name] for name in names] == [60, 201, 0.3, 0.4, 0.6]


@pytest.mark.parametrize("champion", [BETTER, UNSURE])
def test_decide_says_how_many_questions_the_champions_lists_led_to(champion: Comparison) -> None:
    decision = decide(measured(champion=champion, listed=60), YOUNG, SETTINGS)
    assert "on 100 queries, 60 of which lists led to, difference" in decision.reason
    assert decision.numbers["listed"] == 60
    assert "lists led to" not in decide(measured(champion=champion), YOUNG, SETTINGS).reason


def test_decide_knows_nothing_about_a_champion_that_the_run_was_not_compared_with() -> None:
    later = StandingChampion("v2", 25.0, judged=False)
    decision = decide(measured(), later, SETTINGS)
    assert not decision.promoted
    assert "champion v2 came into service during the run" in decision.reason
    assert [name for name in decision.numbers if name.startswith("champion/")] == [
        "champion/age_hours"
    ]


def test_nothing_is_promoted_while_the_data_is_at_fault() -> None:
    better = decide(measured(), YOUNG, SETTINGS)
    assert held_back(better, []) is better
    held = held_back(better, ["data_fault: brands: missing"])
    assert (held.outcome, held.numbers) == ("refused", better.numbers)
    assert held.reason.startswith("held back, since the data is at fault: data_fault: brands")
    assert held.reason.endswith(better.reason)
    refused = decide(measured(champion=WORSE), YOUNG, SETTINGS)
    assert held_back(refused, ["data_fault"]) is refused


@pytest.mark.parametrize(
    ("champion", "against_champion", "words"),
    [
        (
            YOUNG,
            BETTER,
            "surely better than champion v1 since the shift of 2023-11-14 22:13:20 UTC:",
        ),
        (YOUNG, UNSURE, "not surely better than champion v1 since the shift of 2023-11-14 "),
        (OLD, UNSURE, "the challenger is not worse since the shift of 2023-11-14 22:13:20 UTC by "),
        (YOUNG, None, "only 0 test questions since the shift of 2023-11-14 22:13:20 UTC are newer"),
    ],
)
def test_after_a_shift_the_rules_are_the_same_and_the_reason_names_it(
    champion: StandingChampion, against_champion: Comparison | None, words: str
) -> None:
    usual = decide(measured(champion=against_champion), champion, SETTINGS)
    shifted = decide(
        measured(champion=against_champion, onset=1_700_000_000_000), champion, SETTINGS
    )
    assert shifted.outcome == usual.outcome
    assert words in shifted.reason and "shift" not in usual.reason
    assert shifted.numbers == usual.numbers
