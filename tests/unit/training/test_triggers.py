"""The times at which runs start by themselves."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock, create_autospec

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine

from services.training.metrics import TrainingMetrics
from services.training.records import LastRun
from services.training.repository import Repository
from services.training.run.launcher import Launcher
from services.training.runs import Runs
from services.training.settings import TrainingSection
from services.training.triggers import (
    MINUTE_MS,
    CatalogChanges,
    DueRun,
    LakeState,
    Triggers,
    due,
    overdue,
    repeated,
)
from services.training.waiting_alert_repository import WaitingAlert, WaitingAlerts
from slipstream.broker.records import Batch, Message
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.contracts.positions import Source
from slipstream.contracts.times import now_ms
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.lake import CATALOG, Lake
from tests.unit.training.histories import START_MS, events, write, write_items

NOW = 1_700_000_000_000
SETTINGS = TrainingSection(
    schedule_minutes=60, new_events=1_000, catalog_changes=100, cooldown_minutes=30
)


def ended(minutes_ago: float, rows: int | None = 5_000) -> LastRun:
    at = int(NOW - minutes_ago * MINUTE_MS)
    return LastRun(at - MINUTE_MS, at, rows, catalog_version=7, lake_version=40)


def changed(items: int) -> Callable[[int | None], int]:
    """A catalogue of which so many items have changed since version 7."""
    return lambda version: items if version == 7 else 0


@pytest.mark.parametrize(
    ("last", "rows", "running_minutes", "trigger"),
    [
        pytest.param(None, 999, 1, None, id="first run, too few events"),
        pytest.param(None, 1_000, 1, "events", id="first run, enough events"),
        pytest.param(None, 5, 60, "schedule", id="first run, long enough up"),
        pytest.param(None, 0, 600, None, id="empty lake"),
        pytest.param(ended(45), 5_999, 600, None, id="too few new events"),
        pytest.param(ended(45), 6_000, 600, "events", id="enough new events"),
        pytest.param(ended(29), 9_000, 600, None, id="enough new events, cooling down"),
        pytest.param(ended(61), 5_000, 600, "schedule", id="time is up"),
        pytest.param(ended(59), 5_000, 1, None, id="time is not up"),
        pytest.param(ended(45), 1_200, 600, None, id="erased more than has come"),
        pytest.param(ended(45, None), 1_000, 600, "events", id="last run never read the lake"),
        pytest.param(LastRun(NOW, None, 0), 9_000, 600, None, id="a run is under way"),
        pytest.param(ended(-5), 9_000, 600, None, id="ended a little ahead: another clock"),
        pytest.param(ended(-1_440), 6_000, 600, "events", id="ended a day ahead: clock set back"),
        pytest.param(ended(-1_440), 5_000, 600, "schedule", id="clock set back, by schedule"),
    ],
)
def test_due(last: LastRun | None, rows: int, running_minutes: int, trigger: str | None) -> None:
    started_at = NOW - running_minutes * MINUTE_MS
    result = due(last, LakeState(rows, 41), changed(0), started_at, NOW, SETTINGS)
    assert (result.trigger if result else None) == trigger


@pytest.mark.parametrize(
    ("last", "rows", "items", "trigger"),
    [
        pytest.param(ended(45), 5_000, 100, "catalog", id="enough items"),
        pytest.param(ended(45), 5_000, 99, None, id="too few items"),
        pytest.param(ended(45), 6_000, 100, "events", id="events come first"),
        pytest.param(ended(29), 5_000, 100, None, id="cooling down"),
        pytest.param(LastRun(NOW, None, 5_000, 7), 5_000, 100, None, id="a run is under way"),
        pytest.param(None, 5, 100, None, id="no run has read the catalogue"),
        pytest.param(
            LastRun(NOW, NOW - 45 * MINUTE_MS, None, 7), 0, 100, None, id="nothing to learn from"
        ),
    ],
)
def test_due_by_changes_of_the_catalogue(
    last: LastRun | None, rows: int, items: int, trigger: str | None
) -> None:
    result = due(last, LakeState(rows, 41), changed(items), NOW, NOW, SETTINGS)
    assert (result.trigger if result else None) == trigger
    assert trigger != "catalog" or result == DueRun(
        "catalog", "100 items changed since the last run (limit 100)"
    )


def test_due_switched_off_never_starts() -> None:
    off = SETTINGS.model_copy(update={"schedule_minutes": 0, "new_events": 0, "catalog_changes": 0})
    lake = LakeState(10**9, 41)
    assert due(None, lake, changed(10**9), 0, NOW, off) is None
    assert due(ended(45), lake, changed(10**9), 0, NOW, off) is None


def test_due_counts_all_of_a_lake_that_was_made_anew() -> None:
    recreated = due(ended(45), LakeState(1_200, 3), changed(0), NOW, NOW, SETTINGS)
    assert recreated == DueRun("events", "1,200 new interactions since the last run (limit 1,000)")
    assert due(ended(45), LakeState(0, None), changed(0), NOW, NOW, SETTINGS) is None


def alert(
    action: str = "retrain",
    state: str = "opened",
    rule: str = "drift",
    timestamp: int = NOW,
    *,
    hold: bool = False,
    onset: int | None = None,
) -> AlertEvent:
    return AlertEvent.model_validate(
        {
            "alert_id": "a1",
            "rule": rule,
            "severity": Severity.WARNING,
            "state": state,
            "summary": "views shifted",
            "action": action,
            "hold": hold,
            "onset": onset,
            "timestamp": timestamp,
        }
    )


WAITING = WaitingAlert("drift", "views shifted", "r-1", NOW - MINUTE_MS, after_run=3)


def test_overdue_an_alert_that_waits_calls_for_a_run() -> None:
    assert overdue([WAITING], None, NOW, SETTINGS) == DueRun("alert", "drift: views shifted")
    assert overdue([WAITING, WAITING], ended(31), NOW, SETTINGS) == DueRun(
        "alert", "drift: views shifted (and 1 more)"
    )
    assert overdue([], ended(31), NOW, SETTINGS) is None


@pytest.mark.parametrize("last", [ended(29), LastRun(NOW - 2 * MINUTE_MS, None, None)])
def test_overdue_during_cooldown_or_run_is_nothing(last: LastRun) -> None:
    assert overdue([WAITING], last, NOW, SETTINGS) is None


def test_overdue_after_a_run_that_was_asked_for_since_is_nothing() -> None:
    later = NOW + 60 * MINUTE_MS
    assert overdue([WAITING], LastRun(NOW, NOW, None, number=4), later, SETTINGS) is None
    assert overdue([WAITING], LastRun(NOW, NOW, None, number=3), later, SETTINGS) is not None


ONSET = NOW - 120 * MINUTE_MS
SHIFT = WaitingAlert("drift", "views shifted", "r-1", NOW, 3, ONSET)


def refused(after_minutes: int, onset: int | None = ONSET) -> LastRun:
    """A run that was queued so long after the onset, and refused ten minutes later."""
    at = ONSET + after_minutes * MINUTE_MS
    return LastRun(at, at + 10 * MINUTE_MS, 5_000, number=4, unanswered=onset)


def test_repeated_a_refused_run_for_a_shift_when_the_time_since_the_onset_has_doubled() -> None:
    words = "drift: views shifted; the last run was refused, on half of the time"
    assert repeated(SHIFT, refused(60), NOW, SETTINGS) == DueRun("alert", words)
    assert repeated(SHIFT, refused(60), NOW - 1, SETTINGS) is None
    # The next one waits twice as long, so there are few.
    assert repeated(SHIFT, refused(120), NOW + 119 * MINUTE_MS, SETTINGS) is None
    assert repeated(SHIFT, refused(120), NOW + 120 * MINUTE_MS, SETTINGS) is not None


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(None, id="no run"),
        pytest.param(refused(30, None), id="not refused, or it answered no shift"),
        pytest.param(refused(30, ONSET - 1), id="refused for another shift"),
        pytest.param(refused(90), id="too early"),
        pytest.param(refused(-5), id="the clock of the onset is ahead"),
        pytest.param(replace(refused(30), finished_at=NOW - MINUTE_MS), id="cooldown"),
        pytest.param(replace(refused(30), finished_at=None), id="a run is under way"),
    ],
)
def test_repeated_is_nothing_else(last: LastRun | None) -> None:
    assert repeated(SHIFT, last, NOW, SETTINGS) is None


class Scene:
    """Triggers on real SQL, with a queue that is not worked off. `hear` gives them alerts."""

    def __init__(self, engine: Engine, artifacts: Artifacts, **changes: int) -> None:
        settings = SETTINGS.model_copy(update=changes)
        never = Mock(side_effect=AssertionError("nothing is worked off here"))
        self.engine, self.artifacts = engine, artifacts
        self.repository, self.alerts = Repository(engine), WaitingAlerts(engine)
        metrics = TrainingMetrics(CollectorRegistry())
        runs = Runs(
            self.repository,
            artifacts,
            prepare=never,
            launcher=create_autospec(Launcher),
            publish=never,
            resume=never,
            metrics=metrics,
            timeout_s=1,
            onset=self.alerts.onset,
        )
        self.lake = Lake(LakeSettings(uri=str(artifacts.root / "lake")), "test")
        self.triggers = Triggers(runs, self.repository, self.alerts, self.lake, settings)

    def restart(self, **changes: int) -> "Scene":
        """The triggers of the next service, with these settings."""
        return Scene(self.engine, self.artifacts, **changes)

    def hear(self, *alerts: AlertEvent) -> None:
        source = Source("alerts.v1", "t", 0)
        self.triggers.on_alerts(
            Batch(
                messages=[
                    Message(source, at, one.rule, one, f"r-{at}") for at, one in enumerate(alerts)
                ]
            )
        )

    def end_run(self, decision: str = "promoted") -> None:
        (run,) = self.repository.in_state("queued")
        self.repository.start(run.run_id)
        self.repository.finish(run.run_id, "succeeded", decision=decision)

    def queued(self) -> list[tuple[str, str]]:
        return [
            (run.trigger, self.repository.request_id(run.run_id))
            for run in self.repository.in_state("queued")
        ]


@pytest.fixture
def scene(engine: Engine, artifacts: Artifacts) -> Scene:
    return Scene(engine, artifacts)


def test_on_alerts_queues_one_run_with_the_request_id_of_the_alert(
    scene: Scene,
) -> None:
    scene.hear(alert(), alert())
    assert scene.queued() == [("alert", "r-0")]
    scene.end_run()
    scene.hear(alert())  # read again, after the run
    assert scene.queued() == []


def test_runs_have_the_newest_onset_of_the_open_alerts_whatever_their_trigger(
    scene: Scene,
) -> None:
    scene.hear(alert(onset=NOW - 60), alert(rule="clicks", onset=NOW - 90))
    scene.hear(alert("none", rule="fault", hold=True, onset=NOW))
    (answering,) = scene.repository.in_state("queued")
    assert (answering.trigger, answering.onset) == ("alert", NOW - 60)
    scene.end_run()
    for closed, onset in (("drift", NOW - 90), ("clicks", None)):
        scene.hear(alert(state="closed", rule=closed))
        assert scene.alerts.onset() == onset
    run = scene.repository.add("r9", "schedule", "", "fast", onset=NOW - 90)
    assert run.onset == NOW - 90
    scene.repository.start("r9")
    scene.repository.queue_again("r9", "killed")
    (again,) = scene.repository.in_state("queued")
    assert again.onset == NOW - 90


@pytest.mark.parametrize(
    ("decision", "closes"), [("refused", False), ("promoted", False), ("refused", True)]
)
def test_a_shift_gets_another_run_when_its_was_refused_until_it_closes(
    engine: Engine,
    artifacts: Artifacts,
    monkeypatch: pytest.MonkeyPatch,
    decision: str,
    closes: bool,
) -> None:
    scene, began = Scene(engine, artifacts, cooldown_minutes=0), now_ms()
    scene.hear(alert(onset=began - MINUTE_MS))
    scene.end_run(decision)
    if closes:
        scene.hear(alert(state="closed"))
    scene.triggers.check(began)
    assert scene.queued() == [], "too early"

    monkeypatch.setattr("services.training.triggers.now_ms", lambda: began + 2 * MINUTE_MS)
    scene.restart(cooldown_minutes=0).triggers.check(began)
    again = decision == "refused" and not closes
    assert scene.queued() == [("alert", "r-0")] * again


@pytest.mark.parametrize("heard", [alert(action="none"), alert(state="closed")])
def test_other_alerts_start_nothing(scene: Scene, heard: AlertEvent) -> None:
    scene.hear(heard)
    assert scene.queued() == []
    assert scene.alerts.all() == []


def test_alert_within_the_cooldown_starts_a_run_when_it_is_over_even_after_a_restart(
    scene: Scene,
) -> None:
    scene.repository.add("r1", "request", "", "fast")
    scene.end_run()
    scene.hear(alert(timestamp=now_ms() + 1))
    assert scene.queued() == []

    restarted = scene.restart(cooldown_minutes=0)  # it is over
    restarted.triggers.check(now_ms())
    assert restarted.queued() == [("alert", "r-0")]


def test_alert_during_a_run_that_is_killed_and_starts_again_has_a_run_of_its_own(
    engine: Engine, artifacts: Artifacts
) -> None:
    scene = Scene(engine, artifacts, cooldown_minutes=0, new_events=0)
    scene.repository.add("r1", "request", "", "fast")
    scene.repository.start("r1")
    scene.hear(alert())
    scene.repository.queue_again("r1", "killed")
    scene.triggers.check(now_ms())
    scene.hear(alert(rule="quality"))
    assert [waiting.rule for waiting in scene.alerts.all()] == ["drift", "quality"]
    scene.end_run()
    scene.triggers.check(now_ms())
    assert scene.queued() == [("alert", "r-0")]
    assert scene.alerts.all() == []


def test_alert_of_a_clock_that_is_a_day_behind_waits_for_its_run_all_the_same(
    scene: Scene,
) -> None:
    scene.repository.add("r1", "request", "", "fast")
    scene.end_run()
    scene.hear(alert(timestamp=now_ms() - 24 * 60 * MINUTE_MS))
    assert len(scene.alerts.all()) == 1
    over = scene.restart(cooldown_minutes=0)
    over.triggers.check(now_ms())
    assert over.queued() == [("alert", "r-0")]
    assert over.alerts.all() == []


def test_alert_and_its_end_that_are_read_again_start_nothing(
    engine: Engine, artifacts: Artifacts
) -> None:
    scene = Scene(engine, artifacts, cooldown_minutes=0)
    scene.hear(alert())
    scene.end_run()
    scene.hear(alert(state="closed", timestamp=NOW + 1))
    scene.hear(alert(), alert(state="closed", timestamp=NOW + 1))
    assert scene.queued() == []
    scene.hear(alert(timestamp=NOW + 2))
    assert scene.queued() == [("alert", "r-0")]


def test_alert_that_holds_promotions_does_so_until_it_closes_and_starts_nothing(
    scene: Scene,
) -> None:
    fault = alert(rule="data_fault", action="none", hold=True)
    scene.hear(fault, fault)
    assert [each.rule for each in scene.alerts.holding()] == ["data_fault"]
    scene.repository.add("r1", "request", "", "fast")
    scene.end_run()
    scene.restart(cooldown_minutes=0).triggers.check(now_ms())
    assert (scene.queued(), scene.alerts.all()) == ([], [])
    assert len(scene.alerts.holding()) == 1
    scene.hear(alert(rule="data_fault", state="closed", action="none"))
    assert scene.alerts.holding() == []
    scene.hear(fault)  # read again
    assert scene.alerts.holding() == []


def test_alert_that_closes_while_it_waits_starts_nothing(
    scene: Scene,
) -> None:
    scene.repository.add("r1", "request", "", "fast")
    scene.end_run()
    opened = now_ms() + 1
    scene.hear(alert(timestamp=opened), alert(state="closed", timestamp=opened + 1))
    assert scene.alerts.all() == []


def test_look_starts_a_run_when_the_catalogue_has_changed_since_the_last_one(
    engine: Engine, artifacts: Artifacts
) -> None:
    scene = Scene(engine, artifacts, catalog_changes=2, cooldown_minutes=0)
    write(scene.lake, events([("v", "a", "view", START_MS)]))
    read = write_items(scene.lake, [("a", {}, False, 1), ("b", {}, False, 1)])
    scene.repository.add("r1", "request", "", "fast")
    scene.repository.start("r1")
    scene.repository.note("r1", lake_rows=1, catalog_version=read)
    scene.repository.finish("r1", "succeeded")
    scene.triggers.check(now_ms())
    assert scene.queued() == []
    write_items(scene.lake, [("a", {}, True, 2), ("c", {}, False, 2)], first=2)
    scene.triggers.check(now_ms())
    assert scene.queued() == [("catalog", "")]


def test_since_counts_each_item_with_a_later_record_once_and_nothing_else(lake: Lake) -> None:
    changes = CatalogChanges(lake)
    assert changes.since(None) == 0
    first = write_items(lake, [("a", {}, False, 1), ("b", {}, False, 1)])
    assert (changes.since(None), changes.since(first)) == (2, 0)
    second = write_items(
        lake, [("a", {"n": 1}, False, 2), ("a", {"n": 2}, False, 3), ("c", {}, True, 3)], first=2
    )
    write_items(lake, [(f"user-{n}", {}, False, 3) for n in range(9)], entity="user", first=5)
    assert (changes.since(None), changes.since(first), changes.since(second)) == (3, 2, 0)


def test_since_does_not_count_older_records_that_were_merged_with_new_ones(lake: Lake) -> None:
    for number in range(3):
        read = write_items(lake, [(f"i{number}", {}, False, 1)], first=number)
    write_items(lake, [("new", {}, False, 2)], first=3)
    assert lake.compact(CATALOG, min_small_files=2) > 0
    assert CatalogChanges(lake).since(read) == 1


def test_since_a_version_that_is_not_known_is_nothing(lake: Lake) -> None:
    write_items(lake, [("a", {}, False, 1)])
    assert CatalogChanges(lake).since(99) == 0


def test_since_asked_again_reads_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_items(lake, [("a", {}, False, 1)])
    write_items(lake, [("b", {}, False, 2)], first=1)
    changes = CatalogChanges(lake)
    assert changes.since(first) == 1
    monkeypatch.setattr(lake, "scan_since", lambda *_: pytest.fail("read again"))
    assert changes.since(first) == 1
