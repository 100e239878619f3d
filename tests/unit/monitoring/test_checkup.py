"""A round of checks: alerts are kept, told at least once, and survive a restart; Prometheus sees
the round's result.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.utils import floatToGoString
from sqlalchemy import Engine

from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import BUILT_IN, Rule
from services.monitoring.arrivals import Arrivals, Watermark
from services.monitoring.checkup import Checkup, SnapshotCollector
from services.monitoring.click_trend import ClickSums
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.drift_watch import DriftWatch
from services.monitoring.item_attributes import ItemCatalogue
from services.monitoring.probes import Champion, FeaturesStatus, ServiceState, Training
from services.monitoring.quality import Counts
from services.monitoring.repository import RecordLog
from services.monitoring.sampling import Sampler
from services.monitoring.settings import MonitoringSection
from services.monitoring.threshold_rules import METRICS, AlertDefinition, ThresholdRule
from services.monitoring.window_repository import WindowLog
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.contracts.events import AlertEvent, CatalogRecord, Severity
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.contracts.topics import FEATURE_UPDATES, INTERACTIONS, RECOMMENDATIONS
from tests.unit.monitoring.builders import (
    T0,
    WINDOW_MS,
    answer,
    count_lists,
    database,
    service,
)
from tests.unit.monitoring.recorded_slates import history_of, made_of

WINDOW_S = 600
SETTINGS = MonitoringSection(
    failing_checks_to_open=2,
    passing_checks_to_close=2,
    drift_min_visitors=50,
    drift_window_s=WINDOW_S,
    fault_window_s=WINDOW_S,
    drift_season_s=WINDOW_S,
)


class FakeProbes:
    """Answers with what it is given, as the network would."""

    def __init__(self) -> None:
        self.services: list[ServiceState] = [service()]
        model = ModelVersion(version="1", created_at=T0 - DAY_MS)
        self.training = Training(reached=True, champion=Champion(model=model))

    def ask(self) -> tuple[list[ServiceState], Training, FeaturesStatus | None]:
        return self.services, self.training, FeaturesStatus(applied=1, lag=3, caught_up=False)


class Bench:
    """A checkup on a database, with a clock and a broker that the test holds in its hands."""

    def __init__(self, engine: Engine, settings: MonitoringSection = SETTINGS) -> None:
        self.now = T0 - T0 % (WINDOW_S * 1000)
        self.told: list[AlertEvent] = []
        self.broker_away = False
        self.probes = FakeProbes()
        self.engine, self.log = engine, RecordLog(engine)
        self.windows = WindowLog(engine)
        self.book = AlertBook(engine, ["json-1"])
        self.rules: list[Rule] = [*BUILT_IN]
        self.catalogue = ItemCatalogue()
        lengths = {settings.drift_window_s * 1000, settings.fault_window_s * 1000}
        self.sampler = Sampler(lengths, 1_000, self.catalogue)
        self.checkup = Checkup(
            self.log,
            OutcomeTable(engine, lambda _digests: {}).counts,
            DriftWatch(self.windows, settings, self.catalogue),
            self.book,
            self.probes,  # type: ignore[arg-type]
            lambda: self.rules,
            SETTINGS,
            self._announce,
            self._clock,
            rejections=lambda: (2, 40),
        )

    def _clock(self) -> int:
        return self.now

    def _announce(self, events: Sequence[AlertEvent]) -> None:
        if self.broker_away:
            raise BrokerUnavailableError("away")
        self.told.extend(events)

    def check(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 15_000
            self.checkup.run_once()

    def window(self, history: str, visitors: int = 60) -> None:
        """Let a window pass in which so many visitors have histories of these items."""
        slates = [
            made_of(
                f"{self.now}-{n}",
                self.now + n,
                history_of(history[: 1 + n % len(history)], self.now - 1_000 * n),
                user=f"u{n}",
            )
            for n in range(visitors)
        ]
        samples = self.sampler.take(slates)
        self.now += WINDOW_S * 1000
        heard = Watermark(self.now, self.now)
        marks = {RECOMMENDATIONS.name: heard}
        self.log.record(Arrivals(samples=samples, watermarks=marks), self.now)
        self.sampler.keep(samples)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], Bench]:
    engine = database(tmp_path)
    return lambda: Bench(engine)


def test_run_once_opens_and_closes_an_alert_and_tells_both(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.probes.services = [service("serving", "away")]
    bench.check(2)
    bench.check(1)
    bench.probes.services = [service("serving")]
    bench.check(2)
    assert [(event.rule, event.state, event.severity) for event in bench.told] == [
        ("service_down", "opened", Severity.CRITICAL),
        ("service_down", "closed", Severity.CRITICAL),
    ]
    assert len({event.alert_id for event in bench.told}) == 1
    assert bench.checkup.open_alerts == []


class Stop(threading.Event):
    """A stop that lets time pass at once when it is waited for, and is set by the first round."""

    def __init__(self, bench: Bench, waited: Callable[[], None]) -> None:
        super().__init__()
        self._bench, self._waited = bench, waited
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._bench.now += round(timeout * 1000)
        self.waits.append(timeout)
        self._waited()
        if self._bench.checkup.latest is not None:
            self.set()
        return self.is_set()


def test_the_first_round_waits_for_services_that_start_but_not_for_one_that_stays_away(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    away, asleep = service("serving", "away"), service("features", "asleep")
    bench.probes.services = [away, asleep]

    def started() -> None:
        if len(stop.waits) == 2:
            bench.probes.services = [service("serving"), asleep]

    stop = Stop(bench, started)
    bench.checkup.run(stop)
    assert stop.waits == [1, 1, 15]
    assert bench.checkup.latest and bench.checkup.latest.services[0].state == "ready"

    bench = make()
    bench.probes.services = [away]
    stop = Stop(bench, lambda: None)
    bench.checkup.run(stop)
    assert stop.waits == [1] * 45 + [15]
    assert bench.checkup.latest and bench.checkup.latest.services == [away]


def test_run_once_keeps_when_services_started(make: Callable[[], Bench]) -> None:
    bench = make()
    for started_at in (T0, T0 + 1):
        bench.probes.services = [service("serving").model_copy(update={"started_at": started_at})]
        bench.check(2)
    assert bench.log.starts(10) == [(T0, "serving"), (T0 + 1, "serving")]
    assert bench.log.starts(1) == [(T0 + 1, "serving")]


def test_run_once_queues_each_transition_once(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.probes.services = [service("serving", "unready")]
    bench.check(3)
    bench.probes.services = [service("serving", "away")]
    bench.check(2)
    bench.probes.services = [service("serving")]
    bench.check(3)
    waiting = bench.book.unsent()
    assert [it.transition for it in waiting] == ["opened", "worsened", "closed"]
    assert {(it.alert.rule, it.channel) for it in waiting} == {("service_down", "json-1")}
    assert {it.alert.runbook for it in waiting} == {"docs/runbook/service_down.md"}


def test_run_once_judges_the_rules_of_the_moment_and_closes_alerts_of_those_that_are_gone(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    definition = AlertDefinition(
        metric="features_lag", comparison="above", threshold=2, for_minutes=0.5, runbook="Wait."
    )
    bench.check(1)
    bench.rules = [*BUILT_IN, ThresholdRule("behind", 1, definition)]
    bench.check(2)
    assert bench.checkup.open_alerts == []
    bench.check(1)
    (opened,) = bench.checkup.open_alerts
    assert (opened.rule, opened.summary, opened.runbook) == (
        "behind",
        "features' lag is 3 records, above 2 records",
        "Wait.",
    )
    assert "behind" in bench.checkup.rule_pages
    bench.rules = [*BUILT_IN]
    bench.check(1)
    assert bench.checkup.open_alerts == []
    assert [(it.rule, it.state) for it in bench.told] == [
        ("behind", "opened"),
        ("behind", "closed"),
    ]


def test_a_rule_that_comes_back_has_to_fail_from_the_beginning(make: Callable[[], Bench]) -> None:
    bench = make()
    definition = AlertDefinition(
        metric="features_lag", comparison="above", threshold=2, for_minutes=0.5
    )
    behind = ThresholdRule("behind", 1, definition)
    for bench.rules in ([behind], [], [behind]):
        bench.check(2)
    assert bench.checkup.open_alerts == []
    bench.check(1)
    assert [alert.rule for alert in bench.checkup.open_alerts] == ["behind"]


def test_run_once_goes_on_with_streaks_and_alerts_after_a_restart(
    make: Callable[[], Bench],
) -> None:
    first = make()
    first.probes.services = [service("serving", "away")]
    first.check(1)
    second = make()
    second.now = first.now
    second.probes.services = [service("serving", "away")]
    second.check(1)
    assert [event.state for event in second.told] == ["opened"]
    third = make()
    third.now = second.now
    third.check(2)
    assert [event.state for event in third.told] == ["closed"]


def test_run_once_tells_an_alert_when_the_broker_is_back(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.broker_away = True
    bench.probes.services = [service("serving", "away")]
    bench.check(3)
    assert bench.told == []
    bench.broker_away = False
    bench.check(2)
    assert [event.state for event in bench.told] == ["opened"]


def test_run_once_asks_for_retraining_when_visitors_shift(make: Callable[[], Bench]) -> None:
    bench = make()
    for history in ("abcde", "abcde", "abxyz", "abxyz"):
        bench.window(history, visitors=300)
    bench.now += 60_000
    bench.check(2)
    (event,) = bench.told
    assert (event.rule, event.action, event.state) == ("feature_drift", "retrain", "opened")
    assert event.evidence["visitors"] == 300
    assert not event.hold


def test_run_once_holds_promotions_while_the_data_is_at_fault(make: Callable[[], Bench]) -> None:
    bench = make()
    for history in ("abcde", "abcde", "vwxyz"):
        bench.window(history)
    bench.now += 60_000
    bench.check(2)
    (event,) = bench.told
    assert (event.rule, event.action, event.hold) == ("data_fault", "none", True)
    assert event.evidence["faults"].keys() == {"items"}


def test_run_once_leaves_an_alert_alone_while_there_is_too_little_to_judge(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    for history in ("abcde", "abcde", "vwxyz"):
        bench.window(history)
    bench.now += 60_000
    bench.check(3)
    assert [event.state for event in bench.told] == ["opened"]
    bench.now += WINDOW_S * 1000 - bench.now % (WINDOW_S * 1000)
    bench.window("abcde", visitors=40)
    bench.now += 60_000
    bench.check(5)
    assert [event.state for event in bench.told] == ["opened"]
    assert [alert.rule for alert in bench.checkup.open_alerts] == ["data_fault"]


def days(bench: Bench) -> None:
    """Let four days pass, in which a placement is clicked less than in the week before."""
    today = T0 - T0 % DAY_MS
    for days_ago in (9, 8, 2, 1):
        end = today - days_ago * DAY_MS + DAY_MS
        answered = [answer(end - T0 - 600_000) for _ in range(300)]
        bench.log.record(Arrivals(answers=answered), end)
        clicked = 30 if days_ago < 7 else 150
        sums = ClickSums(300, 300, clicked, 300, clicked, clicked)
        bench.windows.add_clicks(DAY_MS, end - DAY_MS, {"home": sums})
        bench.now = end + WINDOW_MS
        bench.check(1)


@pytest.fixture
def week(tmp_path: Path) -> Bench:
    """A bench with windows of a week before, after such days."""
    settings = SETTINGS.model_copy(update={"drift_season_s": 7 * 86_400})
    bench = Bench(database(tmp_path), settings)
    days(bench)
    return bench


def test_run_once_compares_days_that_had_their_attribution_window(week: Bench) -> None:
    bench = week
    # Of a day that had not its attribution window yet: would make it look worse than it is.
    assert bench.checkup.latest is not None
    (home,) = bench.checkup.latest.trend.placements
    assert (home.current.value, home.before.value) == (0.1, 0.5)
    assert home.fell
    bench.check(1)
    assert [event.rule for event in bench.told] == ["click_through_dropped"]


def test_every_metric_of_rules_is_measured(week: Bench) -> None:
    week.catalogue.take(
        CatalogRecord(entity="item", entity_id=it, attributes={}, timestamp=1) for it in "abcdef"
    )
    week.catalogue.caught_up = True
    week.window("abc")
    week.now += 60_000
    at = week.now - T0 - 1_000
    answered = [answer(at, latency_ms=1.0 + n, items=3 if n else 0) for n in range(20)]
    answered.append(answer(at, step="trending", version=""))
    bought = Counts(20, 19, 57, converted_slates=1, converted_items=1)
    count_lists(week.engine, week.now - 1_000, bought)
    marks = {
        topic.name: Watermark(week.now - 4_000, week.now - ago)
        for topic, ago in ((INTERACTIONS, 4_000), (FEATURE_UPDATES, 9_000))
    }
    week.log.record(Arrivals(answers=answered, watermarks=marks), week.now)
    week.now -= 15_000
    week.check()
    snapshot = week.checkup.latest
    assert snapshot is not None
    assert (snapshot.rejections, snapshot.had_champion) == ((2, 40), False)
    found = {name: [*it.read(snapshot, 10)] for name, it in METRICS.items()}
    assert [name for name, readings in found.items() if not readings] == []
    first = {name: readings[0].value for name, readings in found.items()}
    assert first["conversion"] == 1 / 19
    assert first["fallback_share"] == first["empty_share"] == 1 / 21
    assert first["answer_latency_p95"] == pytest.approx(19.0, rel=0.02)
    assert (first["interactions_silence"], first["features_delay"]) == (4.0, 5.0)
    assert (first["placement_click_through"], first["features_lag"]) == (0.1, 3)
    assert first["list_coverage"] == 0.5
    shown_now = week.log.answered(week.now - 600_000 - week.now % 300_000, week.now)
    assert sum(each.slates for each in shown_now.values()) == 21


def test_run_once_forgets_what_is_older_than_its_retention(
    make: Callable[[], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    monkeypatch.setattr("services.monitoring.repository.database_time", lambda _: bench.now)
    bench.log.record(Arrivals(answers=[answer()]), T0)
    bench.now = T0 + 100 * DAY_MS
    bench.check(1)
    assert bench.log.answered(0, 2**60) == {}


def test_collector_exposes_the_latest_round_and_nothing_before_it(
    make: Callable[[], Bench],
) -> None:
    bench, registry = make(), CollectorRegistry()
    SnapshotCollector(bench.checkup, registry)
    before = generate_latest(registry).decode()
    assert f"slipstream_last_check_timestamp_seconds {exported(bench.now)}" in before
    assert "slipstream_service_up" not in before
    count_lists(bench.engine, bench.now, Counts(16, 16, 48, clicked_slates=1, clicked_items=1))
    # No model's work.
    trending = answer(bench.now - T0, step="trending", version="")
    count_lists(bench.engine, bench.now, Counts(1, 1, 3, clicked_slates=1), version="")
    bench.log.record(Arrivals(answers=[trending]), bench.now)
    bench.probes.services = [service("serving", "away")]
    for _ in range(3):
        bench.window("abc")
    bench.now += 60_000
    bench.check(2)
    text = generate_latest(registry).decode()
    assert 'slipstream_service_up{name="serving"} 0.0' in text
    assert 'slipstream_service_asleep{name="serving"} 0.0' in text
    assert 'slipstream_click_through_ratio{model_version="1"} 0.0625' in text
    assert 'slipstream_conversion_ratio{model_version="1"} 0.0' in text
    assert 'model_version=""' not in text
    assert 'slipstream_feature_psi{feature="items"}' in text
    assert 'slipstream_shown_lists{figure="novelty"}' in text
    assert 'slipstream_answered_by_ratio{answered_by="trending"}' in text
    assert (
        'slipstream_alerts_open{page="service_down.md",rule="service_down",severity="critical"} 1.0'
        in text
    )
    assert (
        'slipstream_alerts_open{page="no_champion.md",rule="no_champion",severity="warning"} 0.0'
        in text
    )
    assert "slipstream_features_lag_records 3.0" in text
    age_s = (bench.now - T0 + DAY_MS) / 1000
    assert f"slipstream_champion_age_seconds {age_s}" in text


def test_collector_tells_the_last_check_and_no_stale_figures_when_checks_stop(
    make: Callable[[], Bench],
) -> None:
    bench, registry = make(), CollectorRegistry()
    SnapshotCollector(bench.checkup, registry)
    bench.check()
    checked_at = f"slipstream_last_check_timestamp_seconds {exported(bench.now)}"
    bench.now += 60_000
    text = generate_latest(registry).decode()
    assert "slipstream_last_check_limit_seconds 60.0" in text
    assert checked_at in text and 'slipstream_service_up{name="serving"} 1.0' in text
    bench.now += 1
    text = generate_latest(registry).decode()
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert families == [
        "slipstream_last_check_timestamp_seconds",
        "slipstream_last_check_limit_seconds",
    ]
    assert checked_at in text
    bench.check()
    assert 'slipstream_service_up{name="serving"} 1.0' in generate_latest(registry).decode()


def exported(time_ms: int) -> str:
    """A time as a sample's value."""
    return floatToGoString(time_ms / 1000)


def test_run_once_with_a_clock_that_is_ahead_deletes_nothing_early(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    bench.log.record(Arrivals(answers=[answer(now_ms() - T0)]), now_ms())
    bench.now = now_ms() + 400 * DAY_MS
    bench.check()
    assert len(bench.log.answered(0, 2**60)) == 1
