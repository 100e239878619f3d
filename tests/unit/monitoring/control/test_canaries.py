"""The stop of a canary that is at fault: its new state, audit record, alert, and who is faster."""

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from services.monitoring.alert_rules import CanaryReturned
from services.monitoring.control.canaries import CLICKS_EVERY_MS, CanaryWatch
from services.monitoring.repository import RecordLog
from services.monitoring.slate_tables import AUDIT
from services.monitoring.snapshot import returned_canaries
from slipstream.contracts.rest import AuditRecord
from slipstream.contracts.times import DAY_MS
from slipstream.stores.metadata import AuditLog
from tests.unit.monitoring.builders import snapshot
from tests.unit.monitoring.control.test_experiments_repository import design, table_with_placements
from tests.unit.monitoring.control.test_results_repository import NOW, event, slate, take

CANARY = {
    "kind": "canary",
    "variants": [{"name": "a"}, {"name": "b", "model": "canary"}],
    "guard": {"least_slates": 10},
}


class Watched:
    """A table with a running canary, and its watch."""

    def __init__(self, engine: Engine) -> None:
        self.table, self.now_ms, self.told = table_with_placements(engine), NOW + 1_000, 0
        self.log = AuditLog(engine, AUDIT)
        self.watch = CanaryWatch(self.table, self.tell, lambda: None, lambda: self.now_ms)
        self.put()

    def put(self, **changes: object) -> None:
        audit = AuditRecord(at=NOW, principal="ada", action="put_experiment", subject="calmer")
        self.table.put("calmer", design(**CANARY | changes), audit)

    def tell(self) -> None:
        self.told += 1


@pytest.fixture
def watched(db: Engine) -> Watched:
    made = Watched(db)
    take(db, *(slate(f"a{n}", f"u{n}", "a", latency_ms=2.0) for n in range(40)))
    return made


def test_a_canary_that_fails_is_stopped_once_with_reason_audit_and_alert(
    watched: Watched, db: Engine
) -> None:
    watched.watch.step()
    assert watched.told == 0 and watched.table.find("calmer").revision == 1
    take(db, *(slate(f"b{n}", f"v{n}", "b", substituted="failed") for n in range(12)))
    for _ in range(2):
        watched.watch.step()
    record = watched.table.find("calmer")
    assert (record.revision, record.design.state, record.changed_by) == (2, "stopped", "monitoring")
    assert record.design.stopped_because.endswith("it failed for 12")
    assert watched.told == 1 and watched.table.unpublished() == [record]
    audit = watched.log.page(1, None).items[0]
    assert (audit.principal, audit.action, audit.subject) == (
        "monitoring",
        "return_canary",
        "calmer",
    )
    assert audit.detail["reason"] == record.design.stopped_because

    (returned,) = returned_canaries(watched.table.returned(watched.now_ms))
    finding = CanaryReturned().check(snapshot().model_copy(update={"returned": [returned]}))
    assert finding is not None and finding.summary == (
        f"canary canary of experiment calmer was returned: {record.design.stopped_because}"
    )
    assert watched.table.returned(watched.now_ms + DAY_MS) == []


def test_a_canary_that_loses_clicks_over_its_whole_time_is_stopped(
    watched: Watched, db: Engine
) -> None:
    for variant, visitors, clicks in (("a", 1_000, 300), ("b", 100, 26)):
        ids = [f"{variant}-{at}" for at in range(visitors)]
        take(db, *(slate(each, each, variant) for each in ids))
        take(db, *(event(each, each, "x", each, "view") for each in ids[:clicks]))
    watched.watch.step()
    assert watched.table.find("calmer").design.state == "running"
    take(db, *(slate(f"l{at}", f"l{at}", "b") for at in range(500)))
    # The window has none of them.
    RecordLog(db).expire(shadows_before=0, answers_before=NOW + 1)
    watched.watch.step()
    assert watched.table.find("calmer").design.state == "running"
    watched.now_ms += CLICKS_EVERY_MS
    watched.watch.step()
    stopped = watched.table.find("calmer").design.stopped_because
    assert stopped.startswith("it loses at least") and stopped.endswith("of the control's clicks")


def test_a_rare_canary_is_judged_by_all_slates_of_the_window(watched: Watched, db: Engine) -> None:
    take(db, *(slate(f"b{n}", f"v{n}", "b", substituted="failed") for n in range(12)))
    # Newer ones of the control.
    later = {"timestamp": NOW + 500}
    take(db, *(slate(f"c{n}", f"u{n}", "a").model_copy(update=later) for n in range(60)))
    watched.watch.step()
    stopped = watched.table.find("calmer").design.stopped_because
    assert stopped.startswith(
        "its model did not make 100.0% of 12 slates, the control's 0.0% of 100"
    )


def test_a_canary_is_unjudged_while_monitoring_lags_beyond_the_window(
    watched: Watched, db: Engine
) -> None:
    take(db, *(slate(f"b{n}", f"v{n}", "b", substituted="failed") for n in range(12)))
    watched.now_ms = NOW + 301_000
    with capture_logs() as logs:
        for _ in range(2):
            watched.watch.step()
    record = watched.table.find("calmer")
    assert record.design.state == "running"
    assert [line["event"] for line in logs] == ["a canary is unjudged"]
    guard = watched.table.results("calmer", watched.now_ms).guard
    assert guard is not None and guard.state == "unjudged"
    assert guard.reason == "no slate of the last 300 s is known: the newest is 301 s old"
    watched.now_ms = NOW + 1_000
    watched.watch.step()
    assert watched.table.find("calmer").design.state == "stopped"


def test_slates_of_before_the_last_change_do_not_count(watched: Watched, db: Engine) -> None:
    take(db, *(slate(f"b{n}", f"v{n}", "b", substituted="failed") for n in range(12)))
    audit = AuditRecord(at=NOW + 1, principal="ada", action="put_experiment", subject="calmer")
    watched.table.put("calmer", design(**CANARY | {"traffic": 0.5}), audit)
    watched.watch.step()
    assert watched.table.find("calmer").design.state == "running"


def test_who_changes_it_meanwhile_is_not_overruled(watched: Watched, db: Engine) -> None:
    take(db, *(slate(f"b{n}", f"v{n}", "b", substituted="failed") for n in range(12)))
    faster = CanaryWatch(
        watched.table,
        watched.tell,
        lambda: watched.put(traffic=0.5),
        lambda: watched.now_ms,
    )
    faster.step()
    record = watched.table.find("calmer")
    assert (record.design.state, record.design.traffic, watched.told) == ("running", 0.5, 0)


@pytest.mark.parametrize("changes", [{"kind": "split"}, {"state": "stopped"}, {"ends_at": NOW}])
def test_only_a_canary_that_counts_is_judged(watched: Watched, changes: dict[str, object]) -> None:
    watched.put(**changes)
    assert watched.table.canaries(watched.now_ms) == []
