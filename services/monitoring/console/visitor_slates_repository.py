"""The slates that a visitor was shown, from the lake, and what was clicked in them."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field
from sqlalchemy import Engine, func, select

from services.monitoring.counting.credit import NAMED_MS
from services.monitoring.counting.tables import credits
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.vocabulary import SHOWN
from slipstream.stores.lake_reader import LakeReader, day_of
from slipstream.stores.tables import RECOMMENDATIONS

MOST_SLATES: Final = 200
# Time (s) after which no more of the past is read.
_PATIENCE_S: Final = 3.0
_FOUND: Final = ("recommendation_id", "user_id", "purpose", "timestamp")
_SHOWN: Final = (
    *("recommendation_id", "timestamp", "placement", "model_version", "experiment", "variant"),
    "items",
)


class SeenItem(BaseModel):
    """An item of a slate, and when the visitor first responded to it (ms)."""

    item_id: str
    source: str | None = Field(None, description="retriever, or step, that it came from")
    position: int | None = Field(None, description="from 0")
    clicked_at: int | None = None


class SeenSlate(BaseModel):
    """A slate that a visitor was shown at `at` (ms)."""

    recommendation_id: str
    at: int
    placement: str
    model_version: str
    experiment: str
    variant: str
    items: list[SeenItem]


class SeenSlates(BaseModel):
    """Slates of a visitor, newest first."""

    items: list[SeenSlate]
    since: int = Field(description="time (ms) back to which slates were looked for")


class VisitorSlates:
    """Reads slates of a visitor. Any thread may use it.

    Args:
        clock: Returns the time in ms.
        monotonic: Returns seconds, to keep to its patience.
    """

    def __init__(
        self,
        lake: LakeReader,
        engine: Engine,
        clock: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lake, self._engine = lake, engine
        self._clock, self._monotonic = clock, monotonic

    def newest(self, visitor_id: str, limit: int) -> SeenSlates:
        """The newest slates of a visitor, at most `limit`, with what was clicked in them.

        The lake is read back in time, for three days or three seconds at most. Raises
        `LakeUnavailableError`.
        """
        now_ms, version = self._clock(), self._lake.version(RECOMMENDATIONS)
        until, deadline = now_ms + 1, self._monotonic() + _PATIENCE_S
        rows: list[dict[str, Any]] = []
        length = HOUR_MS
        while version is not None and until > now_ms - NAMED_MS and len(rows) < limit:
            since = max(until - length, now_ms - NAMED_MS)
            times = since, until - 1
            found = self._found(visitor_id, version, times, deadline)
            if found is None:
                break
            rows += self._read(version, found[: limit - len(rows)])
            until, length = since, 2 * length
        reached = until if version is not None else now_ms - NAMED_MS
        return SeenSlates(items=self._with_clicks(visitor_id, rows), since=reached)

    def _found(
        self, visitor_id: str, version: int, times: tuple[int, int], deadline: float
    ) -> list[tuple[int, str]] | None:
        """Time and id of the visitor's slates of some times (ms), newest first; None when the
        deadline has passed.
        """
        found = set[tuple[int, str]]()
        for batch in self._scan(version, _FOUND, times):
            if self._monotonic() > deadline:
                return None
            is_own = pc.and_(
                pc.equal(batch["user_id"], visitor_id), pc.equal(batch["purpose"], SHOWN)
            )
            own = batch.filter(is_own)
            columns = (own[name].to_pylist() for name in ("timestamp", "recommendation_id"))
            found.update(zip(*columns, strict=True))
        return sorted(found, key=lambda each: (-each[0], each[1]))

    def _read(self, version: int, found: list[tuple[int, str]]) -> list[dict[str, Any]]:
        if not found:
            return []
        ids = pa.array([name for _, name in found], pa.string())
        rows: dict[str, dict[str, Any]] = {}
        for batch in self._scan(version, _SHOWN, (found[-1][0], found[0][0])):
            own = batch.filter(pc.is_in(batch["recommendation_id"], ids))
            rows |= {row["recommendation_id"]: row for row in own.to_pylist()}
        return [rows[name] for _, name in found if name in rows]

    def _scan(
        self, version: int, columns: tuple[str, ...], times: tuple[int, int]
    ) -> Iterator[pa.RecordBatch]:
        since = day_of(times[0])
        return self._lake.scan(RECOMMENDATIONS, version, columns, received_since=since, times=times)

    def _with_clicks(self, visitor_id: str, rows: Iterable[dict[str, Any]]) -> list[SeenSlate]:
        ids = [row["recommendation_id"] for row in rows]
        c = credits.c
        clicked = (
            select(c.recommendation_id, c.item_id, func.min(c.at_ms))
            .where(c.user_id == visitor_id, c.recommendation_id.in_(ids), c.kind != "refund")
            .group_by(c.recommendation_id, c.item_id)
        )
        with self._engine.connect() as db:
            first = {(slate, item): at for slate, item, at in db.execute(clicked)} if ids else {}
        return [
            SeenSlate(
                recommendation_id=row["recommendation_id"],
                at=row["timestamp"],
                placement=row["placement"] or "",
                model_version=row["model_version"] or "",
                experiment=row["experiment"] or "",
                variant=(row["variant"] or "") if row["experiment"] else "",
                items=[
                    SeenItem(
                        item_id=item["item_id"],
                        source=item["source"],
                        position=position,
                        clicked_at=first.get((row["recommendation_id"], item["item_id"])),
                    )
                    for position, item in enumerate(row["items"] or ())
                ],
            )
            for row in rows
        ]
