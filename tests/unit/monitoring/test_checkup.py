"""A round of checks: alerts are kept, told at least once, and survive a restart; Prometheus sees
the round's result.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.utils import floatToGoString
from sqlalchemy import Engine

from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Alert, rules
from services.monitoring.attribution import Arrivals
from services.monitoring.checkup import Checkup, SnapshotCollector
from services.monitoring.probes import Champion, FeaturesStatus, ServiceState, Training
from services.monitoring.repository import SlateLog
from services.monitoring.settings import MonitoringSection
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.contracts.bundle import Histogram
from slipstream.contracts.events import AlertEvent, Severity
from slipstream.contracts.rest import ModelVersion
from slipstream.contracts.times import DAY_MS, now_ms
from tests.unit.monitoring.builders import T0, WINDOW_MS, database, response, service, shown

SETTINGS = MonitoringSection(
    failing_checks_to_open=2, passing_checks_to_close=2, drift_min_visitors=10
)


class FakeProbes:
    """Answers with what it is given, as the network would."""

    def __init__(self) -> None:
        self.services: list[ServiceState] = [service()]
        model = ModelVersion(version="1", created_at=T0 - DAY_MS)
        reference = {"views": Histogram(edges=[0, 1, 2, 3], counts=[100, 100, 100])}
        self.training = Training(reached=True, champion=Champion(model=model, reference=reference))

    def ask(self) -> tuple[list[ServiceState], Training, FeaturesStatus | None]:
        return self.services, self.training, FeaturesStatus(applied=1, lag=3, caught_up=False)


class Bench:
    """A checkup on a database, with a clock and a broker that the test holds in its hands."""

    def __init__(self, engine: Engine) -> None:
        self.now = T0
        self.told: list[AlertEvent] = []
        self.broker_away = False
        self.probes = FakeProbes()
        self.log = SlateLog(engine, WINDOW_MS)
        self.book = AlertBook(engine)
        self.notified: list[list[tuple[str, bool]]] = []
        self.checkup = Checkup(
            self.log,
            self.book,
            self.probes,  # type: ignore[arg-type]
            rules(SETTINGS),
            SETTINGS,
            self._announce,
            self._clock,
            notify=self._notify,
        )

    def _clock(self) -> int:
        return self.now

    def _announce(self, events: Sequence[AlertEvent]) -> None:
        if self.broker_away:
            raise BrokerUnavailableError("away")
        self.told.extend(events)

    def _notify(self, alerts: Sequence[Alert], now_ms: int) -> None:
        assert now_ms == self.now
        self.notified.append([(alert.rule, alert.closed_at is None) for alert in alerts])

    def check(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 15_000
            self.checkup.run_once()

    def slates_with_views(self, value: float, count: int = 50) -> None:
        slates = [shown(f"s{value}-{n}", user=f"u{n}", at=self.now - T0) for n in range(count)]
        self.log.record(
            Arrivals(
                slates=slates, features={s.recommendation_id: {"views": value} for s in slates}
            ),
            self.now,
        )


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
    # Each round tells of those that are open, and the last of the one that it closed.
    opened, closed = ("service_down", True), ("service_down", False)
    assert bench.notified == [[], [opened], [opened], [opened], [closed]]


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


def test_run_once_asks_for_retraining_when_features_drift(make: Callable[[], Bench]) -> None:
    bench = make()
    bench.slates_with_views(2.5)
    bench.check(2)
    (event,) = bench.told
    assert (event.rule, event.action, event.state) == ("feature_drift", "retrain", "opened")
    assert event.evidence["visitors"] == 50


def test_run_once_leaves_an_alert_alone_while_there_is_too_little_to_judge(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    bench.slates_with_views(2.5)
    bench.check(2)
    bench.now += 2 * SETTINGS.drift_window_s * 1000
    bench.check(5)
    assert [event.state for event in bench.told] == ["opened"]
    assert [alert.rule for alert in bench.checkup.open_alerts] == ["feature_drift"]


def test_run_once_compares_periods_that_had_their_attribution_window(
    make: Callable[[], Bench],
) -> None:
    bench = make()
    bench.now = T0 + 3 * DAY_MS
    until = bench.now + 15_000 - WINDOW_MS
    for name, end in (("now", until), ("before", until - DAY_MS)):
        slates = [shown(f"{name}{n}", user=f"{name}{n}", at=end - T0 - 600_000) for n in range(300)]
        clicked = 30 if name == "now" else 150
        clicks = [response(f"{name}-e{n}", named=f"{name}{n}") for n in range(clicked)]
        bench.log.record(Arrivals(slates=slates, responses=clicks), bench.now)
    # Younger than the attribution window: would make the present period look worse than it is.
    bench.log.record(
        Arrivals(slates=[shown(f"y{n}", at=bench.now - T0) for n in range(2_000)]), bench.now
    )
    bench.check(1)
    assert bench.checkup.latest is not None
    trend = bench.checkup.latest.trend
    assert (trend.current.click_through.count, trend.current.click_through.of) == (30, 300)
    assert (trend.previous.click_through.count, trend.previous.click_through.of) == (150, 300)
    bench.check(1)
    assert [event.rule for event in bench.told] == ["click_through_dropped"]


def test_run_once_forgets_what_is_older_than_its_retention(
    make: Callable[[], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    monkeypatch.setattr("services.monitoring.repository.database_time", lambda _: bench.now)
    bench.log.record(Arrivals(slates=[shown("s1")]), T0)
    bench.now = T0 + 100 * DAY_MS
    bench.check(1)
    assert bench.log.counts(0, 2**60) == {}


def test_collector_exposes_the_latest_round_and_nothing_before_it(
    make: Callable[[], Bench],
) -> None:
    bench, registry = make(), CollectorRegistry()
    SnapshotCollector(bench.checkup, [rule.name for rule in rules(SETTINGS)], registry)
    before = generate_latest(registry).decode()
    assert f"slipstream_last_check_timestamp_seconds {exported(T0)}" in before
    assert "slipstream_service_up" not in before
    bench.slates_with_views(2.5, count=4)
    bench.slates_with_views(0.5, count=12)
    bench.log.record(Arrivals(responses=[response("e", user="u0", named="s0.5-0")]), bench.now)
    # Clicked, and no model's work.
    trending = shown("t", user="ut", answered_by="trending", model_version="")
    clicked = response("et", user="ut", named="t")
    bench.log.record(Arrivals(slates=[trending], responses=[clicked]), bench.now)
    bench.probes.services = [service("serving", "away")]
    bench.check(2)
    text = generate_latest(registry).decode()
    assert 'slipstream_service_up{name="serving"} 0.0' in text
    assert 'slipstream_service_asleep{name="serving"} 0.0' in text
    assert 'slipstream_click_through_ratio{model_version="1"} 0.0625' in text
    assert 'slipstream_conversion_ratio{model_version="1"} 0.0' in text
    assert 'model_version=""' not in text
    assert 'slipstream_feature_psi{feature="views"}' in text
    assert 'slipstream_answered_by_ratio{answered_by="trending"}' in text
    assert 'slipstream_alerts_open{rule="service_down",severity="critical"} 1.0' in text
    assert 'slipstream_alerts_open{rule="no_champion",severity="warning"} 0.0' in text
    assert "slipstream_features_lag_records 3.0" in text
    assert "slipstream_champion_age_seconds 86430.0" in text


def test_collector_tells_the_last_check_and_no_stale_figures_when_checks_stop(
    make: Callable[[], Bench],
) -> None:
    bench, registry = make(), CollectorRegistry()
    SnapshotCollector(bench.checkup, [rule.name for rule in rules(SETTINGS)], registry)
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
    slate = shown("s", user="ada", at=now_ms() - T0)
    bench.log.record(Arrivals(slates=[slate], features={"s": {"views": 1.0}}), now_ms())
    bench.now = now_ms() + 400 * DAY_MS
    bench.check()
    assert len(bench.log.recent_features(0, 10)) == 1
