"""Backfill: history from the lake, folded again by the functions that fold the stream.

It rebuilds the online store, and writes training rows.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.features.history.catch_up import OutdatedStates, catch_up
from services.features.history.erased_people import erase_waiting
from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.local_engine import LocalEngine
from services.features.history.sinks import HeaviestItems, Sinks, chunks
from services.features.history.training_files import TrainingFiles, row_schema
from services.features.settings import FeaturesSettings
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.features.training_rows import rows_between
from slipstream.stores.lake import Lake
from slipstream.stores.layout import TrendingState
from slipstream.stores.online import TRENDING_KEPT, OnlineStore
from slipstream.stores.rebuild import LastOffset, Rebuild, RebuiltItem, RebuiltVisitor

_CATALOG_AT_ONCE = 500


@dataclass(frozen=True)
class BackfillRequest:
    """A request for a backfill.

    Attributes:
        engine: Engine that folds history: this machine or Spark.
        online: Whether the online store is rebuilt.
        output: Folder for training rows; None for none.
        since_ms: Rows are of events at or after this moment, in ms; features count those before.
        until_ms: Rows are of events before this moment, in ms.
        work_dir: Folder for buckets on disk; the system's folder for temporary files when None.
        settle_s: Seconds in which the lake takes up what was applied online before; twice the
            service's flush interval when None.
        spark_master: Spark's master, for the Spark engine.
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
class BackfillReport:
    """The outcome of a backfill: versions read, numbers of states and rows, duration.

    The last three say which states a busy consumer kept ahead of the lake; they are unchanged.
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
        """Whether every state was replaced."""
        return not (self.visitors_left or self.items_left or self.trending_left)


def backfill(
    settings: FeaturesSettings, request: BackfillRequest, progress: Progress
) -> BackfillReport:
    """Run a backfill at the newest version of the lake, also beside running services.

    It can be broken off and run again. Raises `LakeUnavailableError`, `StoreUnavailableError`, and
    `OutputError` when the output folder holds other files.
    """
    begun = time.monotonic()
    attributes = settings.attributes()
    files = TrainingFiles(request.output) if request.output is not None else None
    if request.online:
        progress(ProgressStep("waiting for the lake", 0.0))
        time.sleep(
            2 * settings.features.lake_flush_s if request.settle_s is None else request.settle_s
        )
    progress(ProgressStep("reading the catalogue", 0.0))
    lake = Lake(settings.lake, settings.namespace)
    erase_waiting(lake)
    snapshot = LakeSnapshot(lake, attributes)
    report = BackfillReport(
        request.engine, snapshot.version, snapshot.catalog_version, snapshot.count()
    )
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
        progress(ProgressStep("catching up", 0.0))
        online.finish()
    if files is not None:
        report.rows = files.rows
        files.complete(_manifest(report, request, attributes))
    report.seconds = time.monotonic() - begun
    return report


def _manifest(
    report: BackfillReport, request: BackfillRequest, attributes: Sequence[str]
) -> dict[str, object]:
    """The description that lies beside training rows: source, window, and columns by type."""
    return {
        "engine": report.engine,
        "lake_version": report.lake_version,
        "catalog_version": report.catalog_version,
        "interactions": report.interactions,
        "rows": report.rows,
        "since_ms": request.since_ms,
        "until_ms": request.until_ms,
        "columns": {field.name: str(field.type) for field in row_schema(attributes)},
    }


class _Online:
    """The online half of a backfill: writes states as they come, and notes those left outdated."""

    def __init__(
        self, settings: FeaturesSettings, snapshot: LakeSnapshot, report: BackfillReport
    ) -> None:
        self._settings, self._snapshot, self._report = settings, snapshot, report
        self._rebuild = self._rebuild_for(snapshot.covered)
        self._outdated = OutdatedStates()
        # A few more than are kept, so that an item that gains in the last step is among them.
        kept = TRENDING_KEPT + TRENDING_KEPT // 20
        self._trending = HeaviestItems(
            kept, TrendingState(half_life_ms=settings.retention().trending_half_life_ms)
        )
        self.sinks = Sinks(self._visitors, self._items, self._trending)

    def put_catalog(self) -> None:
        """Write the catalogue's entries where the store has no newer ones."""
        store = OnlineStore(
            self._settings.redis, self._settings.namespace, self._settings.retention()
        )
        for entries in chunks(self._snapshot.entries.values(), _CATALOG_AT_ONCE):
            store.put_catalog(entries)
        store.close()

    def finish(self) -> None:
        """Write the trending list, then the states that the consumer was ahead with."""
        if not self._rebuild.trending(self._trending.by_item(), self._trending.state):
            self._outdated.trending = self._trending
        left = catch_up(self._snapshot, self._outdated, self._rebuild_for)
        self._rebuild.close()
        self._report.visitors_left, self._report.items_left = len(left.visitors), len(left.items)
        self._report.trending_left = left.trending is not None

    def _visitors(self, rebuilt: list[RebuiltVisitor]) -> None:
        self._report.visitors += len(rebuilt)
        self._outdated.visitors += self._rebuild.visitors(rebuilt)

    def _items(self, rebuilt: list[RebuiltItem]) -> None:
        self._report.items += len(rebuilt)
        self._outdated.items += self._rebuild.items(rebuilt)

    def _rebuild_for(self, covered: LastOffset) -> Rebuild:
        return Rebuild(
            self._settings.redis, self._settings.namespace, self._settings.retention(), covered
        )
