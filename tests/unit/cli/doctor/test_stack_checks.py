from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from slipstream.contracts.times import DAY_MS
from slipstream_cli.doctor import stack_checks as checks
from slipstream_cli.doctor.findings import Finding, Weight

NOW = 1_790_000_000_000
GIB = 2**30


def only(found: Iterable[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_services_that_are_not_ready() -> None:
    services = [
        checks.ServiceFigures("serving", "ready"),
        checks.ServiceFigures("features", "unready", "redis: no answer"),
    ]
    found = only(checks.check_services(services))
    assert (found.weight, found.figure) == (
        Weight.CRITICAL,
        "features is unready: redis: no answer",
    )


@pytest.mark.parametrize(
    ("lag", "caught_up", "weights"),
    [
        (None, False, []),
        (1_000, False, []),
        (5_000, False, [Weight.WARNING]),
        (5_000, True, []),
        (200_000, False, [Weight.CRITICAL]),
    ],
)
def test_features_behind(lag: int | None, caught_up: bool, weights: list[Weight]) -> None:
    assert [found.weight for found in checks.check_lag(lag, caught_up)] == weights


def test_dead_letters_beside_the_events() -> None:
    letters = checks.LetterFigures(Counter(missing_item=40, bot=2), all_read=False)
    found = only(checks.check_letters(letters, 100_000))
    assert found.weight is Weight.NOTE
    assert found.figure == (
        "at least 42 dead letters, beside 100,000 events in the lake: missing_item 40, bot 2"
    )
    assert only(checks.check_letters(letters, 1_000)).weight is Weight.WARNING
    assert not list(checks.check_letters(checks.LetterFigures(), 0))


def test_tables_that_are_not_migrated() -> None:
    found = only(checks.check_tables({"training": [], "monitoring": ["0007", "0008"]}))
    assert found.figure == "monitoring's tables lack 2 migrations: 0007, 0008"


def test_disks_that_are_nearly_full() -> None:
    def weights(used: int) -> list[Weight]:
        disk = checks.DiskFigures("/data", used * GIB, 100 * GIB)
        return [found.weight for found in checks.check_disks([disk])]

    assert [weights(used) for used in (89, 90, 97)] == [[], [Weight.WARNING], [Weight.CRITICAL]]
    assert not list(checks.check_disks([checks.DiskFigures("/empty", 0, 0)]))


def test_redis_near_its_limit() -> None:
    assert not list(checks.check_redis(10 * GIB, None))
    assert not list(checks.check_redis(GIB, 2 * GIB))
    assert only(checks.check_redis(99 * GIB, 100 * GIB)).weight is Weight.CRITICAL


def test_alerts_that_no_check_of_its_own_tells() -> None:
    alerts = [
        {"rule": "service_down", "summary": "serving is away"},
        {"rule": "feature_drift", "summary": "2 of 9 features drifted"},
    ]
    found = only(checks.check_alerts(alerts))
    assert (found.check, found.remedy) == (
        "alert_feature_drift",
        "docs/runbook/feature_drift.md",
    )


def test_keys_that_count_and_were_never_used() -> None:
    def key(name: str, **values: Any) -> dict[str, Any]:
        known = {"last_used_at": None, "revoked_at": None, "expires_at": None}
        return {"name": name, "created_at": NOW - 2 * DAY_MS, **known, **values}

    keys = [
        key("idle"),
        key("new", created_at=NOW),
        key("used", last_used_at=NOW),
        key("revoked", revoked_at=NOW),
        key("ended", expires_at=NOW - 1),
    ]
    assert only(checks.check_keys(keys, NOW)).figure == (
        "1 of 5 access keys (20 %) were never used: idle"
    )
