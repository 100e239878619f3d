"""Checks of the parts of a stack: services, lag, letters, tables, disks, memory, alerts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.contracts.times import DAY_MS
from slipstream_cli.doctor.findings import Finding, Weight, counted, share, some

# Records behind ingestion from which on lists don't know the latest clicks.
_LAG: Final = 1_000
_LAG_CRITICAL: Final = 100_000
# Shares of a disk or of Redis' limit in use.
_FULL, _NEARLY_FULL = 0.97, 0.9
_GIB: Final = 2**30
# Rejected events as a share of those taken.
_MANY_LETTERS: Final = 0.01
# Alerts that say what a check of this command says from nearer by.
_OWN: Final = frozenset({"service_down", "no_champion", "features_lagging"})


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """A service's readiness: `ready`, `unready` or `away`, and what it says of that."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class DiskFigures:
    """A disk: a folder on it that the stack uses, and its bytes."""

    folder: str
    used: int
    total: int


@dataclass(frozen=True, slots=True)
class LetterFigures:
    """Dead letters by code; `all_read` is false where the topic has more than were read."""

    codes: Counter[str] = field(default_factory=Counter)
    all_read: bool = True


def check_services(services: Sequence[ServiceFigures]) -> Iterator[Finding]:
    """Find services that do not answer, or say that they are not ready."""
    for service in services:
        if service.state != "ready":
            yield Finding(
                "service_down",
                Weight.CRITICAL,
                f"{service.name} is {service.state}"
                + (f": {service.detail}" * bool(service.detail)),
                "nothing is lost that was acknowledged, and this part does not work",
                "docs/runbook/service_down.md",
            )


def check_lag(lag: int | None, caught_up: bool) -> Iterator[Finding]:
    """Find a features that is behind: `lag` records are not read (None: unknown)."""
    if lag is not None and lag > _LAG and not caught_up:
        yield Finding(
            "features_behind",
            Weight.CRITICAL if lag > _LAG_CRITICAL else Weight.WARNING,
            f"features is {lag:,} records behind ingestion",
            "lists do not know the latest clicks",
            "docs/runbook/features_lagging.md",
        )


def check_letters(letters: LetterFigures, events: int) -> Iterator[Finding]:
    """Find rejected events, beside the number of those that the lake has."""
    count = sum(letters.codes.values())
    if count:
        codes = some(f"{code} {number:,}" for code, number in letters.codes.most_common())
        yield Finding(
            "dead_letters",
            Weight.WARNING if count > _MANY_LETTERS * events else Weight.NOTE,
            f"{'' if letters.all_read else 'at least '}{counted(count, 'dead letter')}, beside"
            f" {counted(events, 'event')} in the lake: {codes}",
            "what was rejected counts nowhere until it is repaired and sent again",
            "slipstream dead-letters list; docs/runbook/dead-letters.md",
        )


def check_tables(unapplied: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Find services, by name, whose tables lack revisions."""
    for service, revisions in unapplied.items():
        if revisions:
            yield Finding(
                "tables_not_migrated",
                Weight.CRITICAL,
                f"{service}'s tables lack {counted(len(revisions), 'migration')}:"
                f" {some(revisions)}",
                "this version of the service can't work with them",
                "python -m services migrate, or restart the service",
            )


def check_disks(disks: Sequence[DiskFigures]) -> Iterator[Finding]:
    """Find disks that are nearly full."""
    for disk in disks:
        part = disk.used / disk.total if disk.total else 0.0
        if part >= _NEARLY_FULL:
            yield Finding(
                "disk_nearly_full",
                Weight.CRITICAL if part >= _FULL else Weight.WARNING,
                f"the disk of {disk.folder} is {100 * part:.0f} % full,"
                f" {(disk.total - disk.used) / _GIB:,.1f} GiB are left",
                "on a full disk nothing is written, and events wait in the broker or are refused",
                "docs/runbook/disk-full.md",
            )


def check_redis(used: int, limit: int | None) -> Iterator[Finding]:
    """Find a Redis whose memory is nearly used up; bytes, `limit` None for none."""
    if limit and used >= _NEARLY_FULL * limit:
        yield Finding(
            "redis_nearly_full",
            Weight.CRITICAL if used >= _FULL * limit else Weight.WARNING,
            f"Redis uses {share(used // 2**20, limit // 2**20, 'MiB')}",
            "a full Redis refuses writes, and features waits",
            "docs/runbook/RedisMemoryLow.md",
        )


def check_alerts(alerts: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Repeat the open alerts of monitoring that no other check tells."""
    for alert in alerts:
        if alert["rule"] not in _OWN:
            yield Finding(
                f"alert_{alert['rule']}",
                Weight.WARNING,
                f"open alert: {alert['summary']}",
                "monitoring has found it in several checks in a row",
                f"docs/runbook/{alert['rule']}.md",
            )


def check_keys(keys: Sequence[Mapping[str, Any]], now_ms: int) -> Iterator[Finding]:
    """Find keys of monitoring's table that count and were never used since a day."""
    idle = [
        str(key["name"])
        for key in keys
        if key["last_used_at"] is None
        and key["revoked_at"] is None
        and (key["expires_at"] is None or key["expires_at"] > now_ms)
        and now_ms - key["created_at"] > DAY_MS
    ]
    if idle:
        yield Finding(
            "unused_keys",
            Weight.NOTE,
            f"{share(len(idle), len(keys), 'access keys')} were never used: {some(idle)}",
            "a sender that should use it does not, or the key is one more to lose",
            "slipstream keys list; slipstream keys revoke NAME",
        )
