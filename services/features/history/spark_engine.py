"""History on many machines: Spark brings the records of a visitor or item together, and folds them
by the same functions.

Reading a Delta table from Spark needs a package of its own on every machine. So Spark reads the
Parquet files of which the version consists, as deltalake lists them. Its workers write training
rows; states are written by the process that asked for them.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from services.features.history.local_engine import (
    Progress,
    Sinks,
    only_linked,
    pairs_by_item,
    rebuilt_item,
    rebuilt_visitor,
    several_of,
    trending_mass,
)
from services.features.history.rows import FOLDED_COLUMNS, placed
from services.features.history.snapshot import HISTORY_SCHEMA, Known, Snapshot
from services.features.history.training_files import (
    KEY,
    TrainingFiles,
    as_batch,
    item_schema,
    row_schema,
    visitor_schema,
)
from slipstream.features import training_rows
from slipstream.stores import layout
from slipstream.stores.lake import INTERACTIONS
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

_STATES_AT_ONCE: Final = 500
_NO_REVISION: Final = bytes(layout.REVISION_BYTES)
_VISITORS: Final = "user_id string, state binary, last_received long"
_ITEMS: Final = "item_id string, state binary, last_received long, mass double"
_PAIRS: Final = "source string, offset long, item_id string, neighbour string, at long"
_PAIR_COLUMNS: Final = ("source", "offset", "item_id", "neighbour", "at")


class SparkMissingError(Exception):
    """PySpark or Java is not there."""


class SparkEngine:
    """One run over a snapshot. `master` is Spark's: "local[*]", or the address of a cluster whose
    machines see the lake.
    """

    def __init__(
        self, snapshot: Snapshot, half_life_ms: float, master: str, progress: Progress
    ) -> None:
        self._snapshot, self._half_life_ms, self._progress = snapshot, half_life_ms, progress
        self._spark = _session(master)

    def run(
        self, sinks: Sinks, files: TrainingFiles | None, since_ms: int | None, until_ms: int | None
    ) -> None:
        """Fold everything once: states into `sinks`, and the asked moments into `files`."""
        try:
            events = self._events().cache()
            known = self._spark.sparkContext.broadcast(self._snapshot.known)
            if sinks.visitors is not None or sinks.items is not None:
                self._states(events, known, sinks)
            if files is not None:
                self._progress("training rows", 0.0)
                self._rows(events, known, files, since_ms, until_ms)
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
        # The files alone: the folders' names are a partition that no feature reads.
        events = spark.read.schema(stored).option("recursiveFileLookup", "true").parquet(*paths)
        if not snapshot.known.merged:
            return events.withColumn("visitor", F.col("user_id"))
        merged = spark.createDataFrame(
            list(snapshot.known.merged.items()), "merged string, user string"
        )
        linked = events.join(F.broadcast(merged), events["user_id"] == merged["merged"], "left")
        return linked.select(*FOLDED_COLUMNS, F.coalesce("user", "user_id").alias("visitor"))

    def _states(self, events: "DataFrame", known: Any, sinks: Sinks) -> None:
        by_visitor = events.groupBy("visitor")
        self._progress("visitors", 0.0)
        if sinks.visitors is not None:
            unseen = set(self._snapshot.known.merged.values())
            for rows in _several(
                by_visitor.applyInPandas(partial(_visitor_state, known), _VISITORS)
            ):
                unseen.difference_update(row["user_id"] for row in rows)
                sinks.visitors([self._visitor(row) for row in rows])
            sinks.visitors(
                [only_linked(self._snapshot.known, user_id) for user_id in sorted(unseen)]
            )
        self._progress("items", 0.0)
        pairs = by_visitor.applyInPandas(partial(_visitor_pairs, known), _PAIRS)
        on_items = (
            events.where("item_id is not null").groupBy("item_id").cogroup(pairs.groupBy("item_id"))
        )
        states = on_items.applyInPandas(partial(_item_state, self._half_life_ms), _ITEMS)
        for rows in _several(states):
            if sinks.items is not None:
                sinks.items(
                    [RebuiltItem(row[0], layout.decode_item(bytes(row[1])), row[2]) for row in rows]
                )
            if sinks.trending is not None:
                for row in rows:
                    sinks.trending.push(row["item_id"], row["mass"])
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
            self._snapshot.known.members(user_id),
            last,
        )

    def _rows(
        self,
        events: "DataFrame",
        known: Any,
        files: TrainingFiles,
        since_ms: int | None,
        until_ms: int | None,
    ) -> None:
        from pyspark.sql.pandas.types import from_arrow_schema

        attributes = self._snapshot.known.attributes
        of_visitors = events.groupBy("visitor").applyInPandas(
            partial(_visitor_rows, known, since_ms, until_ms),
            from_arrow_schema(visitor_schema(attributes)),
        )
        of_items = (
            events.where("item_id is not null")
            .groupBy("item_id")
            .applyInPandas(
                partial(_item_rows, since_ms, until_ms), from_arrow_schema(item_schema())
            )
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


def _several(frame: "DataFrame") -> Iterator[list[Any]]:
    return several_of(frame.toLocalIterator(prefetchPartitions=True), _STATES_AT_ONCE)


def _records(frame: "pd.DataFrame") -> list[Any]:
    return placed({name: frame[name].tolist() for name in FOLDED_COLUMNS})


def _visitor_state(known: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    found: Known = known.value
    visitor, _ = rebuilt_visitor(found, frame["visitor"].iloc[0], _records(frame))
    return _frame(
        [
            (
                visitor.user_id,
                layout.encode_visitor(visitor.state, _NO_REVISION),
                visitor.last_received,
            )
        ],
        _VISITORS,
    )


def _visitor_pairs(known: Any, frame: "pd.DataFrame") -> "pd.DataFrame":
    found: Known = known.value
    _, told = rebuilt_visitor(found, frame["visitor"].iloc[0], _records(frame))
    return _frame([(source, offset, *pair) for source, offset, pair in told], _PAIRS)


def _item_state(
    half_life_ms: float, events: "pd.DataFrame", pairs: "pd.DataFrame"
) -> "pd.DataFrame":
    records = _records(events)
    item_id = records[0].interaction.item_id
    rows = zip(*(pairs[name].tolist() for name in _PAIR_COLUMNS), strict=True)
    item = rebuilt_item(item_id, records, pairs_by_item(rows).get(item_id, []))
    encoded = layout.encode_item(item.state, _NO_REVISION)
    return _frame(
        [(item_id, encoded, item.last_received, trending_mass(records, half_life_ms))], _ITEMS
    )


def _visitor_rows(
    known: Any, since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame"
) -> "pd.DataFrame":
    found: Known = known.value
    asked = training_rows.rows_between(since_ms, until_ms)
    rows = training_rows.visitor_rows(
        frame["visitor"].iloc[0], _records(frame), asked, found.catalogue, found.attributes
    )
    return as_batch(rows, visitor_schema(found.attributes)).to_pandas()


def _item_rows(since_ms: int | None, until_ms: int | None, frame: "pd.DataFrame") -> "pd.DataFrame":
    return as_batch(
        training_rows.item_rows(_records(frame), training_rows.rows_between(since_ms, until_ms)),
        item_schema(),
    ).to_pandas()


def _frame(rows: Iterable[tuple[Any, ...]], columns: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(rows), columns=[column.split()[0] for column in columns.split(", ")])
