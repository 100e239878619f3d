from collections import Counter
from typing import Any

from slipstream.contracts.rest import ModelVersion, Run
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream_cli.doctor.event_figures import EventFigures
from slipstream_cli.doctor.findings import Finding
from slipstream_cli.doctor.training_checks import TrainingFigures, check_training

NOW = 1_790_000_000_000
EVENTS = EventFigures(total=5_000, sampled=5_000, histories=Counter({"a": 9, "b": 9, "c": 9}))
EVENTS.items.update(f"i{n}" for n in range(50))
CHAMPION = ModelVersion(version="r1", created_at=NOW - DAY_MS)
UNBEATEN = {
    "popularity/queries": 300.0, "popularity/challenger": 0.05, "popularity/other": 0.06,
    "popularity/difference_low": -0.02,
}  # fmt: skip


def run(name: str, **values: Any) -> Run:
    known = {"state": "succeeded", "trigger": "request", "created_at": NOW - HOUR_MS}
    return Run.model_validate({"run_id": name, **known, **values})


def judged(decision: str) -> Run:
    return run("r1", decision=decision, decision_reason="worse than popularity", finished_at=NOW)


def checked(figures: TrainingFigures, events: EventFigures = EVENTS) -> dict[str, Finding]:
    return {found.check: found for found in check_training(figures, events, NOW)}


def test_champion_that_beats_popularity_has_no_finding() -> None:
    numbers = UNBEATEN | {"popularity/difference_low": 0.01}
    assert checked(TrainingFigures(CHAMPION, [judged("promoted")], numbers)) == {}


def test_no_model_without_a_run_and_after_a_refusal() -> None:
    assert checked(TrainingFigures())["no_model"].remedy == "slipstream runs start --follow"
    refused = checked(TrainingFigures(None, [judged("refused")], UNBEATEN))
    assert "refused r1: worse than popularity" in refused["no_model"].figure
    assert "slipstream runs show r1" in refused["no_model"].remedy
    # Without events there is nothing to train on, and the events' own check says so.
    assert checked(TrainingFigures(), EventFigures()) == {}


def test_unbeaten_popularity_names_the_causes_that_the_figures_show() -> None:
    figures = TrainingFigures(CHAMPION, [judged("promoted")], UNBEATEN)
    found = checked(figures)["popularity_unbeaten"]
    assert "NDCG@10 0.0500 against 0.0600 on 300 queries" in found.figure
    assert "the events don't say why" in found.why
    poor = EventFigures(total=90, sampled=90, histories=Counter({"bot": 50, "b": 1, "c": 1}))
    poor.items.update(["i1", "i2"])
    few = TrainingFigures(CHAMPION, [judged("promoted")], UNBEATEN | {"popularity/queries": 40.0})
    why = checked(few, poor)["popularity_unbeaten"].why
    for cause in (
        "40 queries can't tell",
        "90 events in all are few",
        "2 of 3 visitors (67 %) have fewer than 3",
        "one visitor has 50 of 52 events (96 %)",
        "2 items leave little",
    ):
        assert cause in why


def test_failed_run_that_nothing_took_up() -> None:
    failed = run("r2", state="failed", error="out of memory", finished_at=NOW)
    assert "out of memory" in checked(TrainingFigures(CHAMPION, [failed]))["run_failed"].figure
    taken_up = failed.model_copy(update={"resumed_by": "r3"})
    assert checked(TrainingFigures(CHAMPION, [taken_up])) == {}


def test_queue_of_runs_says_behind_which() -> None:
    going = run("r3", state="running", progress=0.4)
    queued = [run(f"r{n}", state="queued", created_at=NOW - n * HOUR_MS) for n in (2, 1)]
    found = checked(TrainingFigures(CHAMPION, [*queued, going]))["queue_of_runs"]
    assert found.figure == "2 runs in the queue behind r3 (40%), the oldest for 2 h"
    assert checked(TrainingFigures(CHAMPION, [queued[0], going])) == {}
    # Nothing runs, and one waits all the same.
    assert "queue_of_runs" in checked(TrainingFigures(CHAMPION, queued[:1]))


def test_old_model() -> None:
    old = CHAMPION.model_copy(update={"created_at": NOW - 45 * DAY_MS})
    assert "45 days old" in checked(TrainingFigures(old))["old_model"].figure
