"""Verdicts from sums: guardrails, and what breaks an experiment."""

import pytest

from services.monitoring.control.results import Division, VariantSums, share_check
from services.monitoring.control.verdicts import Period, verdicts
from slipstream.contracts.experiments import ExperimentDesign
from slipstream.contracts.times import DAY_MS
from tests.unit.monitoring.control.test_results import design, sums

PERIOD = Period(0, 10 * DAY_MS)


def judged(
    chosen: ExperimentDesign,
    found: dict[str, VariantSums],
    currencies: dict[str, int] | None = None,
) -> list[tuple[str, str, str]]:
    division = Division({name: it.visitors for name, it in found.items()}, 0, excluded=False)
    shares = share_check(chosen, division)
    made = verdicts(chosen, found, shares, PERIOD, currencies or {})
    return [(it.variant, it.verdict, it.reason) for it in made]


def test_a_variant_that_is_surely_better_ships_and_one_that_is_worse_stops() -> None:
    assert judged(design(), {"a": sums(1, 9_000), "b": sums(2, 9_000, 1.5)})[0][1] == "ship"
    assert judged(design(), {"a": sums(1, 9_000), "b": sums(2, 9_000, 0.6)})[0][1] == "stop"
    (alike,) = judged(design(), {"a": sums(1, 900), "b": sums(2, 900)})
    assert alike[:2] == ("b", "go_on") and "are possible" in alike[2]
    (few,) = judged(design(), {"a": sums(1, 9), "b": sums(2, 9)})
    assert few[1:] == ("go_on", "there are too few hits: intervals begin at 100")


def test_a_guardrail_that_is_crossed_stops_what_is_better() -> None:
    guarded = design(guardrails=[{"metric": "empty", "worse": 0.005}])
    found = {"a": sums(1, 9_000), "b": sums(2, 9_000, 1.5, empty=0.05)}
    ((_, verdict, reason),) = judged(guarded, found)
    assert verdict == "stop" and reason.startswith("empty is worse by at least")
    assert "0.5% are allowed" in reason
    seems = {"a": sums(1, 9_000), "b": sums(2, 9_000, 1.5, empty=0.017)}
    ((_, verdict, reason),) = judged(guarded, seems)
    assert verdict == "go_on" and "but empty seems worse by" in reason
    assert judged(design(), found)[0][1] == "ship"


def test_visitors_who_do_not_divide_as_designed_break_the_experiment() -> None:
    ((_, verdict, reason),) = judged(design(), {"a": sums(1, 4_000), "b": sums(2, 4_900, 1.5)})
    assert verdict == "broken" and reason.startswith("visitors do not divide as designed (a 4,000")
    weighted = design(variants=[{"name": "a", "weight": 40}, {"name": "b", "weight": 49}])
    assert judged(weighted, {"a": sums(1, 4_000), "b": sums(2, 4_900, 1.5)})[0][1] == "ship"


def test_a_guarded_metric_without_data_breaks_the_experiment() -> None:
    plain = {"a": sums(1, 9_000), "b": sums(2, 9_000)}
    by_money = design(metric="revenue_per_visitor")
    assert judged(by_money, plain)[0][1:] == (
        "broken",
        "no purchase has a value: revenue is unknown",
    )
    paid = {"a": sums(1, 9_000, value=9), "b": sums(2, 9_000, value=9)}
    mixed = judged(by_money, paid, currencies={"EUR": 3, "USD": 4, "": 2, "GBP": 0})
    assert mixed[0][1:] == ("broken", "purchases are in EUR, USD: revenue has no sum")
    assert judged(by_money, paid, currencies={"EUR": 3, "": 2})[0][1] != "broken"
    timed = design(guardrails=[{"metric": "latency", "worse": 0.1}])
    assert judged(timed, plain)[0][1:] == ("broken", "slates of a, b have no latency")
    assert judged(timed, paid)[0][1] != "broken"


def test_days_are_left_at_the_rate_until_now() -> None:
    found = {"a": sums(1, 2_000), "b": sums(2, 2_000)}
    shares = share_check(design(), Division({"a": 2_000, "b": 2_000}, 0, excluded=False))
    (verdict,) = verdicts(design(), found, shares, PERIOD, {})
    assert verdict.detectable is not None and verdict.detectable > 0.05
    assert verdict.visitors_left is not None and verdict.visitors_left > 10_000
    assert verdict.days_left == pytest.approx(verdict.visitors_left / 400)
    # One moment has no rate.
    (verdict,) = verdicts(design(), found, shares, Period(0, 0), {})
    assert verdict.visitors_left is not None and verdict.days_left is None


def test_a_shadow_has_no_verdict_and_each_other_variant_has_one() -> None:
    three = design(variants=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    assert judged(design(kind="shadow"), {"a": sums(1, 10)}) == []
    found = {name: sums(at, 3_000) for at, name in enumerate("abc")}
    assert [it[0] for it in judged(three, found)] == ["b", "c"]
