"""Engine that folds history on many machines with Spark.

Spark groups the records of each visitor and item, and its workers fold them by the functions that
the local engine uses. Workers write training rows; states are written by the process that started
the run.

Spark needs an extra package on every machine to read a Delta table. So it reads the version's
Parquet files, as deltalake lists them.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from services.features.history.archive import FOLDED_COLUMNS, stream_interactions
from services.features.history.lake_snapshot import HISTORY_SCHEMA, CatalogHistory, LakeSnapshot
from services.features.history.sinks import (
    Sinks,
    chunks,
    demand_masses,
    linked_visitor,
    pairs_by_item,
    rebuilt_item,
    rebuilt_visitor,
)
from services.features.history.training_files import (
    KEY,
    TrainingFiles,
    as_batch,
    item_schema,
    row_schema,
    visitor_schema,
)
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.features import decay, training_rows
from slipstream.stores import layout
from slipstream.stores.lake import INTERACTIONS
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession


# Columns of the frames below, as Spark writes a schema.
VISITORS: Final = "user_id string, state binary, last_received long"
ITEMS: Final = "item_id string, state binary, last_received long, masses array<double>"
PAIRS: Final = "source string, offset long, item_id string, neighbour string, at long"
_PAIR_COLUMNS: Final = ("source", "offset", "item_id", "neighbour", "at")
_NO_REVISION: Final = bytes(layout.REVISION_BYTES)


def visitor_state(broadcast: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The encoded state of these records' visitor."""
    catalog: CatalogHistory = broadcast.value
    visitor, _ = rebuilt_visitor(catalog, frame["visitor"].iloc[0], _records(frame))
    return _frame(
        [
            (
                visitor.user_id,
                layout.encode_visitor(visitor.state, _NO_REVISION),
                visitor.last_received,
            )
        ],
        VISITORS,
    )


def visitor_pairs(broadcast: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The pairs of items that a visitor's records make."""
    catalog: CatalogHistory = broadcast.value
    _, pairs = rebuilt_visitor(catalog, frame["visitor"].iloc[0], _records(frame))
    return _frame([(source, offset, *pair) for source, offset, pair in pairs], PAIRS)


def item_state(
    half_lives_ms: Sequence[float], events: "pd.DataFrame", pairs: "pd.DataFrame"
) -> "pd.DataFrame":
    """The encoded state of these records' and pairs' item, with its demand."""
    records = _records(events)
    item_id: str = events["item_id"].iloc[0]
    rows = zip(*(pairs[name].tolist() for name in _PAIR_COLUMNS), strict=True)
    item = rebuilt_item(item_id, records, pairs_by_item(rows).get(item_id, []))
    encoded = layout.encode_item(item.state, _NO_REVISION)
    return _frame(
        [(item_id, encoded, item.last_received, demand_masses(records, half_lives_ms))], ITEMS
    )


def visitor_rows(
    broadcast: Any, since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame"
) -> "pd.DataFrame":
    """The visitor halves of training rows, of these records' visitor."""
    catalog: CatalogHistory = broadcast.value
    asked = training_rows.rows_between(since_ms, until_ms)
    rows = training_rows.visitor_rows(
        frame["visitor"].iloc[0],
        _records(frame),
        asked,
        catalog.item_attributes,
        catalog.attributes,
    )
    return as_batch(rows, visitor_schema(catalog.attributes)).to_pandas()


def item_rows(since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame") -> "pd.DataFrame":
    """The item halves of training rows, of these records' item."""
    return as_batch(
        training_rows.item_rows(_records(frame), training_rows.rows_between(since_ms, until_ms)),
        item_schema(),
    ).to_pandas()


def _records(frame: "pd.DataFrame") -> list[StreamInteraction]:
    return stream_interactions({name: frame[name].tolist() for name in FOLDED_COLUMNS})


def _frame(rows: Iterable[tuple[Any, ...]], columns: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=[column.split()[0] for column in columns.split(", ")])


_STATES_AT_ONCE: Final = 500


class SparkMissingError(Exception):
    """PySpark is not installed, or Java is too old or missing."""


class SparkEngine:
    """A run over a snapshot of the lake with Spark."""

    def __init__(
        self, snapshot: LakeSnapshot, half_life_ms: float, master: str, progress: Progress
    ) -> None:
        """Start Spark. Raises `SparkMissingError`.

        Args:
            half_life_ms: Half-life of an event's weight in trending, in ms.
            master: Spark's master: "local[*]", or the address of a cluster that sees the lake.
            progress: Called as the run goes on.
        """
        self._snapshot, self._half_life_ms, self._progress = snapshot, half_life_ms, progress
        self._spark = _session(master)

    def run(
        self, sinks: Sinks, files: TrainingFiles | None, since_ms: int | None, until_ms: int | None
    ) -> None:
        """Fold history once, and stop Spark.

        Args:
            files: Folder for training rows; None for none.
            since_ms: Rows are of events at or after this moment, in ms; None for all.
            until_ms: Rows are of events before this moment, in ms; None for all.
        """
        try:
            events = self._events().cache()
            catalog = self._spark.sparkContext.broadcast(self._snapshot.catalog)
            if sinks.visitors is not None or sinks.items is not None:
                self._states(events, catalog, sinks)
            if files is not None:
                self._progress(ProgressStep("training rows", 0.0))
                self._rows(events, catalog, files, since_ms, until_ms)
        finally:
            self._spark.stop()

    def _events(self) -> "DataFrame":
        from pyspark.sql import functions as F
        from pyspark.sql.pandas.types import from_arrow_schema

        snapshot, spark = self._snapshot, self._spark
        stored = from_arrow_schema(
            pa.schema([HISTORY_SCHEMA.field(name) for name in FOLDED_COLUMNS])
        )
        paths = (
            [] if snapshot.version is None else snapshot.lake.files(INTERACTIONS, snapshot.version)
        )
        if not paths:
            return spark.createDataFrame([], from_arrow_schema(HISTORY_SCHEMA))
        # No partitions from the folders' names: no feature reads them.
        events = spark.read.schema(stored).option("recursiveFileLookup", "true").parquet(*paths)
        if not snapshot.catalog.merged:
            return events.withColumn("visitor", F.col("user_id"))
        merged = spark.createDataFrame(
            list(snapshot.catalog.merged.items()), "merged string, user string"
        )
        linked = events.join(F.broadcast(merged), events["user_id"] == merged["merged"], "left")
        return linked.select(*FOLDED_COLUMNS, F.coalesce("user", "user_id").alias("visitor"))

    def _states(self, events: "DataFrame", catalog: Any, sinks: Sinks) -> None:
        by_visitor = events.groupBy("visitor")
        self._progress(ProgressStep("visitors", 0.0))
        if sinks.visitors is not None:
            unseen = set(self._snapshot.catalog.merged.values())
            for rows in _row_chunks(
                by_visitor.applyInPandas(partial(visitor_state, catalog), VISITORS)
            ):
                unseen.difference_update(row["user_id"] for row in rows)
                sinks.visitors([self._visitor(row) for row in rows])
            sinks.visitors(
                [linked_visitor(self._snapshot.catalog, user_id) for user_id in sorted(unseen)]
            )
        self._progress(ProgressStep("items", 0.0))
        pairs = by_visitor.applyInPandas(partial(visitor_pairs, catalog), PAIRS)
        on_items = (
            events.where("item_id is not null").groupBy("item_id").cogroup(pairs.groupBy("item_id"))
        )
        states = on_items.applyInPandas(
            partial(item_state, decay.half_lives(self._half_life_ms)), ITEMS
        )
        for rows in _row_chunks(states):
            if sinks.items is not None:
                sinks.items(
                    [RebuiltItem(row[0], layout.decode_item(bytes(row[1])), row[2]) for row in rows]
                )
            if sinks.trending is not None:
                for row in rows:
                    sinks.trending.push(row["item_id"], row["masses"])
        if sinks.trending is not None:
            from pyspark.sql import functions as F

            reached = events.groupBy("topic_id", "partition").agg(
                F.max("offset").alias("offset"), F.max("timestamp").alias("at")
            )
            for row in reached.collect():
                sinks.trending.cover(
                    f"{row['topic_id']}:{row['partition']}", row["offset"], row["at"]
                )

    def _visitor(self, row: Any) -> RebuiltVisitor:
        user_id, state, last = row
        return RebuiltVisitor(
            user_id,
            layout.decode_visitor(bytes(state)),
            self._snapshot.catalog.members(user_id),
            last,
            self._snapshot.catalog.unproven(user_id),
        )

    def _rows(
        self,
        events: "DataFrame",
        catalog: Any,
        files: TrainingFiles,
        since_ms: int | None,
        until_ms: int | None,
    ) -> None:
        from pyspark.sql.pandas.types import from_arrow_schema

        attributes = self._snapshot.catalog.attributes
        of_visitors = events.groupBy("visitor").applyInPandas(
            partial(visitor_rows, catalog, since_ms, until_ms),
            from_arrow_schema(visitor_schema(attributes)),
        )
        of_items = (
            events.where("item_id is not null")
            .groupBy("item_id")
            .applyInPandas(partial(item_rows, since_ms, until_ms), from_arrow_schema(item_schema()))
        )
        joined = of_visitors.join(of_items, list(KEY)).select(*row_schema(attributes).names)
        joined.sortWithinPartitions("user_id", "timestamp", "event_id").write.mode(
            "overwrite"
        ).parquet(str(files.writing))
        files.rows = sum(
            pq.read_metadata(path).num_rows for path in Path(files.writing).glob("*.parquet")
        )


def _session(master: str) -> "SparkSession":
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkMissingError(
            "PySpark is not installed: pip install 'slipstream[spark]'"
        ) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = (
        SparkSession.builder.master(master)
        .appName("slipstream backfill")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
    )
    if master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1").config(
            "spark.driver.bindAddress", "127.0.0.1"
        )
        builder = builder.config("spark.sql.shuffle.partitions", str(max(4, os.cpu_count() or 1)))
    try:
        session: SparkSession = builder.getOrCreate()
    except (PySparkException, OSError) as error:
        raise SparkMissingError(
            f"Spark does not start (it needs Java 17 or newer): {error}"
        ) from error
    return session


def _row_chunks(frame: "DataFrame") -> Iterator[list[Any]]:
    return chunks(frame.toLocalIterator(prefetchPartitions=True), _STATES_AT_ONCE)
