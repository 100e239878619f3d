"""The revision that a slate counts for, its credit, and a visitor's vote."""

from typing import Any

from services.monitoring.visitor_sums import (
    SETTLING_MS,
    ClickedSlate,
    Credit,
    PaidResponse,
    Vote,
    credit,
    currencies,
    design_starts,
    key_of,
    slate_sums,
    vote,
)
from slipstream.contracts.experiments import Experiment, ExperimentDesign
from tests.unit.monitoring.builders import T0, shown

DESIGN: dict[str, Any] = {"placements": ["home"], "variants": [{"name": "a"}, {"name": "b"}]}


def revision(number: int, at: int, *, deleted: bool = False, **changes: Any) -> Experiment:
    return Experiment(
        name="calmer",
        revision=number,
        design=ExperimentDesign.model_validate(DESIGN | changes),
        deleted=deleted,
        changed_at=T0 + at,
    )


REVISIONS = [
    revision(1, 0),
    revision(2, 1_000, ends_at=5, metric="conversion", least_effect=0.1, guard={"window_s": 60}),
    revision(3, 100_000, traffic=0.5),
    revision(4, 200_000, traffic=0.5, state="stopped"),
    revision(5, 300_000, traffic=0.5, deleted=True),
    revision(6, 400_000, traffic=0.5),
]


def counted_for(at: int) -> int | None:
    slate = shown(at=at, experiment="calmer", variant="a")
    key = key_of(slate, {"calmer": design_starts(REVISIONS)})
    return None if key is None else key.revision


def test_only_what_changes_the_assignment_begins_new_sums() -> None:
    starts = design_starts(reversed(REVISIONS))
    assert [(it.revision, it.since, it.control) for it in starts] == [
        (1, T0, "a"),
        (3, T0 + 100_000, "a"),
        (6, T0 + 400_000, "a"),
    ]


def test_a_slate_counts_for_the_design_of_its_time_but_not_while_it_settles() -> None:
    assert [counted_for(at) for at in (-500, 0, 99_999)] == [1, 1, 1]
    assert counted_for(100_000) is None and counted_for(100_000 + SETTLING_MS - 1) is None
    assert [counted_for(at) for at in (100_000 + SETTLING_MS, 399_999, 900_000)] == [3, 3, 6]
    assert key_of(shown(), {}) is None
    assert key_of(shown(experiment="unknown", variant="a"), {"unknown": []}) is None


def test_items_count_once_and_money_each_time() -> None:
    responses = [
        PaidResponse("x", False, False, None, ""),
        PaidResponse("x", False, False, None, ""),
        PaidResponse("y", True, False, None, ""),
        PaidResponse("z", True, True, 12.9, "EUR"),
        PaidResponse("z", True, True, 0.1, ""),
    ]
    assert credit(responses) == Credit(1, 1, 1, 1, 13_000)
    assert credit([]) == Credit()
    assert currencies(responses) == {"EUR": 1, "": 1}


def test_a_slate_without_items_or_by_another_model_counts() -> None:
    slate = shown(items="", substituted="failed", latency_ms=12.34)
    assert slate_sums(slate) == {
        "slates": 1,
        "empty": 1,
        "failed": 1,
        "timed": 1,
        "latency": 123,
    }
    assert slate_sums(shown())["timed"] == 0


def test_a_visitor_votes_by_the_first_slate_that_decides() -> None:
    teams = {"w": "a", "x": "a", "y": "b", "z": "b"}
    slates = [
        ClickedSlate(3, "s3", teams, frozenset("wx")),
        ClickedSlate(1, "s1", teams, frozenset("wy")),
        ClickedSlate(2, "s2", teams, frozenset("yzw")),
    ]
    assert vote(slates, "a") == Vote(1, "s2")
    assert vote(slates, "b") == Vote(-1, "s2")
    assert vote(slates[1:2], "a") == Vote()
