"""History, folded again by the functions that fold the stream: the online store rebuilt from the
lake, training rows written.
"""

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from services.features.history.catch_up import Behind, catch_up
from services.features.history.local_engine import (
    LocalEngine,
    Progress,
    Sinks,
    Trending,
    several_of,
)
from services.features.history.snapshot import Snapshot
from services.features.history.training_files import TrainingFiles, row_schema
from services.features.settings import FeaturesSettings
from slipstream.features.training_rows import rows_between
from slipstream.stores.lake import Lake
from slipstream.stores.layout import TrendingState
from slipstream.stores.online import TRENDING_KEPT, OnlineStore
from slipstream.stores.rebuild import LastOffset, Rebuild, RebuiltItem, RebuiltVisitor

_CATALOG_AT_ONCE = 500


@dataclass(frozen=True)
class Request:
    """What is to be done. `since_ms` and `until_ms` choose the events that become rows; features
    always count what was before.

    `work_dir` is for what does not fit into memory (the system's folder for temporary files when
    None). `settle_s`: so long the lake is given to have what was applied online before the
    beginning; twice the features service's flush when None.
    """

    engine: Literal["local", "spark"] = "local"
    online: bool = True
    output: Path | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    work_dir: Path | None = None
    settle_s: float | None = None
    spark_master: str = "local[*]"


@dataclass
class Report:
    """What was done. The last two are states that a busy consumer kept ahead of the lake: they are
    as they were before.
    """

    engine: str
    lake_version: int | None = None
    catalog_version: int | None = None
    interactions: int = 0
    visitors: int = 0
    items: int = 0
    rows: int = 0
    seconds: float = 0.0
    visitors_left: int = 0
    items_left: int = 0
    trending_left: bool = False

    @property
    def complete(self) -> bool:
        return not (self.visitors_left or self.items_left or self.trending_left)


def backfill(settings: FeaturesSettings, request: Request, progress: Progress) -> Report:
    """Do it, at the newest version of the lake. May be broken off and asked again, also beside
    running services.

    Raises `LakeUnavailableError`, `StoreUnavailableError`, and `OutputError` when the output folder
    holds something else.
    """
    begun = time.monotonic()
    attributes = settings.attributes()
    files = TrainingFiles(request.output) if request.output is not None else None
    if request.online:
        progress("waiting for the lake", 0.0)
        time.sleep(
            2 * settings.features.lake_flush_s if request.settle_s is None else request.settle_s
        )
    progress("reading the catalogue", 0.0)
    snapshot = Snapshot(Lake(settings.lake, settings.namespace), attributes)
    report = Report(request.engine, snapshot.version, snapshot.catalog_version, snapshot.count())
    asked = rows_between(request.since_ms, request.until_ms)
    online = _Online(settings, snapshot, report) if request.online else None
    sinks = online.sinks if online else Sinks()
    if online:
        online.put_catalog()
    if request.engine == "spark":
        from services.features.history.spark_engine import SparkEngine

        engine = SparkEngine(
            snapshot, settings.retention().trending_half_life_ms, request.spark_master, progress
        )
        engine.run(sinks, files, request.since_ms, request.until_ms)
    else:
        with tempfile.TemporaryDirectory(
            prefix="slipstream-backfill-", dir=request.work_dir
        ) as folder:
            LocalEngine(snapshot, Path(folder), progress).run(sinks, files, asked)
    if online:
        progress("catching up", 0.0)
        online.finish()
    if files is not None:
        report.rows = files.rows
        schema = row_schema(attributes)
        window = {"since_ms": request.since_ms, "until_ms": request.until_ms}
        files.complete(
            {
                **_told(report),
                **window,
                "columns": {field.name: str(field.type) for field in schema},
            }
        )
    report.seconds = time.monotonic() - begun
    return report


def _told(report: Report) -> dict[str, object]:
    told = asdict(report)
    return {
        name: told[name]
        for name in ("engine", "lake_version", "catalog_version", "interactions", "rows")
    }


class _Online:
    """Writes the states as they come, and notes which are behind."""

    def __init__(self, settings: FeaturesSettings, snapshot: Snapshot, report: Report) -> None:
        self._settings, self._snapshot, self._report = settings, snapshot, report
        self._rebuild = self._rebuild_for(snapshot.covered)
        self._behind = Behind()
        # Some more than are kept, so that one that gains in the last step is among them.
        kept = TRENDING_KEPT + TRENDING_KEPT // 20
        self._trending = Trending(
            kept, TrendingState(half_life_ms=settings.retention().trending_half_life_ms)
        )
        self.sinks = Sinks(self._visitors, self._items, self._trending)

    def put_catalog(self) -> None:
        """The catalogue's entries, where the store has no newer ones."""
        store = OnlineStore(
            self._settings.redis, self._settings.namespace, self._settings.retention()
        )
        for entries in several_of(self._snapshot.entries.values(), _CATALOG_AT_ONCE):
            store.put_catalog(entries)
        store.close()

    def finish(self) -> None:
        """Trending, and what the consumer was ahead with."""
        if not self._rebuild.trending(self._trending.by_item(), self._trending.state):
            self._behind.trending = self._trending
        left = catch_up(self._snapshot, self._behind, self._rebuild_for)
        self._rebuild.close()
        self._report.visitors_left, self._report.items_left = len(left.visitors), len(left.items)
        self._report.trending_left = left.trending is not None

    def _visitors(self, rebuilt: list[RebuiltVisitor]) -> None:
        self._report.visitors += len(rebuilt)
        self._behind.visitors += self._rebuild.visitors(rebuilt)

    def _items(self, rebuilt: list[RebuiltItem]) -> None:
        self._report.items += len(rebuilt)
        self._behind.items += self._rebuild.items(rebuilt)

    def _rebuild_for(self, covered: LastOffset) -> Rebuild:
        return Rebuild(
            self._settings.redis, self._settings.namespace, self._settings.retention(), covered
        )
