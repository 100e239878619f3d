"""Receipts of erasures: each place that a user's data may stand in, and whether it is gone."""

from collections.abc import Sequence

from pydantic import BaseModel

from services.monitoring.settings import MonitoringSection
from slipstream.contracts.rest import ErasureState, ModelVersion
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.topics import DEAD_LETTERS

# Expired rows are deleted every five minutes.
_EXPIRY_MS = 600_000


class Place(BaseModel):
    """A place: whether the data is gone from it, since when (ms, where known), and what it waits
    for.
    """

    place: str
    done: bool
    at: int | None = None
    detail: str = ""


class Receipt(BaseModel):
    """A receipt. It is complete when the data is gone from every place."""

    erasure_id: str
    complete: bool
    places: list[Place]


def receipt(
    state: ErasureState,
    models: Sequence[ModelVersion] | None,
    settings: MonitoringSection,
    now_ms: int,
) -> Receipt:
    """The receipt of an erasure at a moment.

    Args:
        state: What features knows of it.
        models: All versions of models that are kept; None when training can't be asked.
        settings: Times after which monitoring and ingestion forget by themselves.
        now_ms: The moment.
    """
    erased_at = state.erased_at
    if erased_at is None:
        names = ("redis", "lake", "lake files", "topics", "dead letters", "monitoring", "caches")
        places = [Place(place=name, done=False, detail="waits") for name in (*names, "models")]
        return Receipt(erasure_id=state.erasure_id, complete=False, places=places)
    kept_h = max(settings.slate_retention_h, settings.pending_retention_s / 3600)
    tables_at = erased_at + int(kept_h * HOUR_MS) + _EXPIRY_MS
    caches_at = erased_at + int(settings.erasure_caches_h * HOUR_MS)
    topics = [topic for topic in state.topics_left if topic != DEAD_LETTERS.name]
    letters = DEAD_LETTERS.name in state.topics_left
    rows = ", ".join(f"{count} of {table}" for table, count in sorted(state.rows.items()))
    places = [
        Place(place="redis", done=True, at=erased_at),
        Place(place="lake", done=True, at=erased_at, detail=f"rows deleted: {rows}"),
        Place(
            place="lake files",
            done=state.files_left == 0,
            detail=f"{state.files_left} files of older versions until the next vacuum",
        ),
        Place(place="topics", done=not topics, detail=f"records until retention: {topics}"),
        Place(place="dead letters", done=not letters, detail="until retention"),
        Place(place="monitoring", done=now_ms >= tables_at, at=tables_at, detail="by retention"),
        Place(place="caches", done=now_ms >= caches_at, at=caches_at, detail="by their times"),
        _models(state, models),
    ]
    for place in places[2:]:
        if place.done:
            place.detail = ""
    complete = all(place.done for place in places)
    return Receipt(erasure_id=state.erasure_id, complete=complete, places=places)


def _models(state: ErasureState, models: Sequence[ModelVersion] | None) -> Place:
    if models is None:
        return Place(place="models", done=False, detail="training can't be asked")
    # A version whose lake version is not known may have been fitted on anything.
    older = [
        model.version
        for model in models
        if model.lake_version is None or model.lake_version < (state.lake_version or 0)
    ]
    detail = f"fitted on the lake before the erasure: {', '.join(older)}" if older else ""
    return Place(place="models", done=not older, detail=detail)
