"""Receipts of erasures: each place that a user's data may stand in, and whether it is gone."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from services.monitoring.people.repository import ErasureEntry
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.late_records import MARKED_MS
from slipstream.contracts.rest import (
    ErasurePlace,
    ErasureReceipt,
    ErasureState,
    ModelsBeforeErasure,
)
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.contracts.topics import DEAD_LETTERS, TOPICS

PLACES: Final = (
    "redis",
    "redis files",
    "lake",
    "lake files",
    "monitoring",
    "topics",
    "dead letters",
    "late records",
    "caches",
    "logs",
    "models",
)
# The broker looks for records past their retention every five minutes by default, and deletes their
# files a minute later.
_BROKER_MS: Final = 360_000


def receipt(
    erasure_id: str,
    state: ErasureState | None,
    entry: ErasureEntry | None,
    models: ModelsBeforeErasure | None,
    settings: MonitoringSection,
    now_ms: int,
) -> ErasureReceipt:
    """The receipt of an erasure at a moment.

    Args:
        state: What features knows of it; None before features has read it.
        entry: What monitoring knows of it; None before monitoring has read it.
        models: What training has from before it; None when training can't be asked.
        settings: Times after which ingestion and the logs forget by themselves.
    """
    asked_at = None if entry is None else entry.asked_at
    if state is None or state.erased_at is None:
        return ErasureReceipt(
            erasure_id=erasure_id,
            state="requested" if state is None else "waits",
            complete=False,
            asked_at=asked_at,
            places=[ErasurePlace(place=name, done=False, detail="waits") for name in PLACES],
        )
    places = [
        *_stores(state, state.erased_at),
        _tables(entry),
        *_topics(state, state.erased_at),
        _late_records(state.erased_at, now_ms),
        _caches(state.erased_at, settings, now_ms),
        _logs(state.erased_at, settings, now_ms),
        _models(models),
    ]
    complete = all(place.done for place in places)
    return ErasureReceipt(
        erasure_id=erasure_id,
        state="complete" if complete else "erased",
        complete=complete,
        asked_at=asked_at,
        places=places,
    )


def _stores(state: ErasureState, erased_at: int) -> Iterator[ErasurePlace]:
    yield ErasurePlace(place="redis", done=True, at=erased_at)
    written = state.redis_written_at is not None and state.redis_written_at >= erased_at
    yield ErasurePlace(
        place="redis files",
        done=written,
        at=state.redis_written_at if written else None,
        detail="" if written else "until Redis rewrites its append-only file or dump",
    )
    rows = ", ".join(f"{count} of {table}" for table, count in sorted(state.rows.items()))
    yield ErasurePlace(place="lake", done=True, at=erased_at, detail=f"rows deleted: {rows}")
    left = state.files_left
    yield ErasurePlace(
        place="lake files",
        done=left == 0,
        detail=f"{left} files of older versions until the next vacuum" if left else "",
    )


def _tables(entry: ErasureEntry | None) -> ErasurePlace:
    name = "monitoring"
    if entry is None or entry.deleted_at is None:
        return ErasurePlace(place=name, done=False, detail="reads what is from before the erasure")
    deleted = f"rows deleted: {entry.rows_deleted}"
    if entry.overwritten_at is None:
        detail = f"{deleted}; the database has not given up their bytes"
        return ErasurePlace(place=name, done=False, detail=detail)
    detail = f"{deleted}. {entry.overwritten_how}"
    return ErasurePlace(place=name, done=True, at=entry.overwritten_at, detail=detail)


def _topics(state: ErasureState, erased_at: int) -> Iterator[ErasurePlace]:
    """The topics and the dead letters. Their records leave when their topic's retention ends."""
    kept_ms = {topic.name: topic.retention_ms for topic in TOPICS}
    for name, of_letters in (("topics", False), ("dead letters", True)):
        left = [each for each in state.topics_left if (each == DEAD_LETTERS.name) == of_letters]
        if not left:
            yield ErasurePlace(place=name, done=True)
            continue
        gone_at = {each: erased_at + (kept_ms.get(each) or 0) + _BROKER_MS for each in left}
        dates = ", ".join(f"{each} until {_date(at)}" for each, at in gone_at.items())
        yield ErasurePlace(
            place=name, done=False, at=max(gone_at.values()), detail=f"by retention: {dates}"
        )


def _late_records(erased_at: int, now_ms: int) -> ErasurePlace:
    """Records that may arrive though they were made before the erasure: a client or a person sends
    them again.
    """
    at = erased_at + MARKED_MS
    detail = "" if now_ms >= at else "left out by digests of the visitors' ids, whenever they come"
    return ErasurePlace(place="late records", done=now_ms >= at, at=at, detail=detail)


def _caches(erased_at: int, settings: MonitoringSection, now_ms: int) -> ErasurePlace:
    at = erased_at + int(settings.erasure_caches_h * HOUR_MS)
    detail = "" if now_ms >= at else "digests of message ids in Redis, by their times"
    return ErasurePlace(place="caches", done=now_ms >= at, at=at, detail=detail)


def _logs(erased_at: int, settings: MonitoringSection, now_ms: int) -> ErasurePlace:
    """The logs: they name routes, but a line about a fault may quote an id that it met."""
    at = erased_at + int(settings.log_retention_d * DAY_MS)
    detail = "" if now_ms >= at else f"lines about faults, by retention: until {_date(at)}"
    return ErasurePlace(place="logs", done=now_ms >= at, at=at, detail=detail)


def _models(models: ModelsBeforeErasure | None) -> ErasurePlace:
    name = "models"
    if models is None:
        return ErasurePlace(place=name, done=False, detail="training can't be asked")
    if not models.versions and not models.runs:
        return ErasurePlace(place=name, done=True)
    runs = [f"the run under way {run_id}" for run_id in models.runs]
    detail = (
        f"learned from the lake before the erasure: {', '.join([*models.versions, *runs])}; "
        f"deleted by {_date(models.deleted_by)}"
    )
    return ErasurePlace(place=name, done=False, at=models.deleted_by, detail=detail)


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
