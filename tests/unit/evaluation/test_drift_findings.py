"""A shift is what visitors do, a fault what they don't. Neither is chance, nor of one visitor."""

from collections.abc import Mapping

import numpy as np
import pytest

from slipstream.evaluation.drift import Sketch, sketch_names, sketch_numbers
from slipstream.evaluation.drift_findings import (
    Limits,
    Measure,
    Verdict,
    Window,
    catalogue_fault,
    judge,
    volume_fault,
)

HOUR_MS = 3_600_000
LIMITS = Limits(0.1, 0.05, 100)
NUMBER = Measure("number", "read", "number")
NAMES = Measure("names", "read", "names")
FIXED = Measure("fixed", "read", "names", fixed=True)
GOOD = Measure("good", "read", "names", good="read")
SAID = Measure("said", "said", "names")
LOGNORMAL = np.random.default_rng(4).lognormal(2, 1, 2_000)


def window(sketch: Sketch, measure: Measure, visitors: float = 1_000.0, **more: object) -> Window:
    values: dict[str, object] = {"version": "1", "placement": Sketch({"home": visitors})}
    return Window(0, HOUR_MS, visitors, sketches={measure.name: sketch}, **(values | more))  # type: ignore[arg-type]


def verdict(measure: Measure, before: Sketch, now: Sketch, **more: object) -> Verdict:
    (found,) = judge(
        window(now, measure, **more), {"season": window(before, measure)}, [measure], LIMITS
    )
    return found


def named(**counts: float) -> Sketch:
    return Sketch(counts)


def test_a_sized_and_sure_change_of_what_is_read_is_a_shift() -> None:
    found = verdict(
        NUMBER, sketch_numbers(LOGNORMAL[:1_000]), sketch_numbers(LOGNORMAL[:1_000] * 2)
    )
    assert (found.kind, found.why, found.reference) == ("shift", "", "season")
    found = verdict(NAMES, named(a=500, b=500), named(a=800, b=200))
    assert found.kind == "shift"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(named(a=50, b=70), named(a=80, b=40), id="sized, not sure"),
        pytest.param(named(a=50_000, b=50_000), named(a=55_000, b=45_000), id="sure, not sized"),
        pytest.param(named(a=10, b=30), named(a=30, b=10), id="too few"),
    ],
)
def test_a_change_that_is_small_or_may_be_chance_is_none(before: Sketch, now: Sketch) -> None:
    assert verdict(NAMES, before, now).kind == ""


def test_a_change_of_what_is_said_is_no_shift_and_is_of_the_same_version_only() -> None:
    before, now = named(a=500, b=500), named(a=800, b=200)
    assert verdict(SAID, before, now).kind == ""
    assert (
        judge(window(now, SAID, version="2"), {"season": window(before, SAID)}, [SAID], LIMITS)
        == []
    )


def test_nothing_shifts_where_the_placements_have_changed() -> None:
    before, now = named(a=500, b=500), named(a=800, b=200)
    mixed = Sketch({"home": 300.0, "basket": 700.0})
    assert verdict(NAMES, before, now, placement=mixed).kind == ""
    assert verdict(NAMES, before, Sketch({"c": 1_000.0}), placement=mixed).kind == "fault"


@pytest.mark.parametrize(
    ("measure", "before", "now", "why"),
    [
        (NUMBER, Sketch({"9": 900.0}, 50), Sketch({"9": 500.0}, 400), "missing for 44 %"),
        (NUMBER, Sketch({"9": 900.0}, 5), Sketch({}, 900), "missing for 100%"),
        (GOOD, named(read=950, failed=5), named(read=500, failed=400), "not read for 44 %"),
        (
            NUMBER,
            sketch_numbers(LOGNORMAL),
            sketch_numbers([7.0] * 900),
            "the same value for all visitors",
        ),
        (
            NUMBER,
            sketch_numbers(LOGNORMAL),
            sketch_numbers(LOGNORMAL * 1_000),
            "out of the range",
        ),
        (NAMES, named(a=500, b=500), named(c=450, d=450, a=100), "not among the names"),
        (FIXED, named(ease=700, knn=300), named(ease=1_000), "knn has vanished"),
    ],
)
def test_faults(measure: Measure, before: Sketch, now: Sketch, why: str) -> None:
    found = verdict(measure, before, now)
    assert found.kind == "fault"
    assert why.replace(" %", "%") in found.why


def test_a_fault_needs_fewer_of_the_good_and_not_more() -> None:
    assert verdict(GOOD, named(read=500, failed=400), named(read=950, failed=5)).kind == ""
    assert verdict(NUMBER, Sketch({"9": 500.0}, 400), Sketch({"9": 900.0}, 5)).kind == ""


def test_a_name_that_was_rare_may_vanish() -> None:
    assert verdict(FIXED, named(ease=950, knn=50), named(ease=1_000)).kind != "fault"


def test_the_reference_that_differs_most_gives_the_verdict() -> None:
    now = window(named(a=800, b=200), NAMES)
    references = {
        "season": window(named(a=790, b=210), NAMES),
        "first": window(named(a=400, b=600), NAMES),
    }
    (found,) = judge(now, references, [NAMES], LIMITS)
    assert (found.reference, found.kind) == ("first", "shift")


def test_one_visitor_with_many_slates_counts_once() -> None:
    visitors: list[Mapping[str, float]] = [{"a": 1.0}] * 150 + [{"b": 1.0}] * 149
    crawler: Mapping[str, float] = {"c": 200.0}
    found = verdict(NAMES, sketch_names(visitors, 100), sketch_names([*visitors, crawler], 100))
    assert found.kind == ""
    assert found.distances is not None
    assert found.distances.psi < 0.01


def test_findings_of_a_month_without_change_are_as_rare_as_alpha_says() -> None:
    random = np.random.default_rng(5)
    measures = [Measure(f"m{n}", "read", "number") for n in range(8)]
    few = Limits(0.0, 0.05 * 720, 100)  # a month's chance in each look, and no least size

    def sketches() -> dict[str, Sketch]:
        return {each.name: sketch_numbers(random.lognormal(2, 1, 200)) for each in measures}

    looks = [
        judge(
            Window(0, HOUR_MS, 200.0, sketches=sketches()),
            {"season": Window(0, HOUR_MS, 200.0, sketches=sketches())},
            measures,
            few,
        )
        for _ in range(60)
    ]
    assert sum(any(it.kind for it in look) for look in looks) <= 10  # 3, within 4 deviations


def test_volume_fault_is_a_multiple_at_a_like_moment() -> None:
    many = window(named(a=1), NAMES, 1_000)
    assert volume_fault(window(named(a=1), NAMES, 200), many, LIMITS).startswith("200 visitors")
    assert volume_fault(many, window(named(a=1), NAMES, 200), LIMITS)
    assert volume_fault(window(named(a=1), NAMES, 400), many, LIMITS) == ""
    quiet = window(named(a=1), NAMES, 150)
    assert volume_fault(window(Sketch({}), NAMES, 0), quiet, LIMITS) == ""


def test_catalogue_fault_is_the_loss_of_half_of_it() -> None:
    assert catalogue_fault(40, 100) == "the catalogue has 40 items, 100 before"
    assert catalogue_fault(60, 100) == ""
    assert catalogue_fault(None, 100) == ""
    assert catalogue_fault(0, 10) == ""


def test_what_grows_with_the_age_of_the_data_is_a_finding_where_it_falls() -> None:
    grows = NUMBER._replace(grows=True)
    young, old = sketch_numbers(LOGNORMAL[:1_000]), sketch_numbers(LOGNORMAL[1_000:] * 3)
    assert verdict(grows, young, old).kind == ""
    assert verdict(grows, old, young).kind == "shift"
    beyond = sketch_numbers(LOGNORMAL[:1_000] + 1_000)
    assert verdict(NUMBER, young, beyond).kind == "fault"
    assert verdict(grows, young, beyond).kind == ""
    assert verdict(grows, beyond, young).kind == "fault"
