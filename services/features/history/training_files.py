"""Training rows as Parquet files, in a folder that is complete or absent."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.features.training_rows import EVENT_COLUMNS, feature_columns
from slipstream.features.views import ITEM
from slipstream.stores.lake import INTERACTIONS, SCHEMAS

MANIFEST: Final = "_backfill.json"
KEY: Final = ("topic_id", "partition", "offset")
_ARROW: Final = {
    "Int64": pa.int64(),
    "Float64": pa.float64(),
    "String": pa.string(),
    "Array(String)": pa.list_(pa.string()),
    "Array(Int64)": pa.list_(pa.int64()),
    "Array(Float64)": pa.list_(pa.float64()),
}


class OutputError(Exception):
    """The output folder holds other files, so nothing is written to it."""


def row_schema(attributes: Sequence[str]) -> pa.Schema:
    """The columns of a training row: those of its event, then the features "<view>__<feature>"."""
    events = [SCHEMAS[INTERACTIONS].field(name) for name in EVENT_COLUMNS]
    features = [
        (name, _ARROW[feature.dtype]) for name, feature in feature_columns(attributes).items()
    ]
    return pa.schema([*events, *features])


def visitor_schema(attributes: Sequence[str]) -> pa.Schema:
    """The columns of a training row that the visitor's history gives."""
    return pa.schema(
        [field for field in row_schema(attributes) if not field.name.startswith(f"{ITEM.name}__")]
    )


def item_schema() -> pa.Schema:
    """The event's position, and the columns of a training row that the item's history gives."""
    return pa.schema(
        [
            field
            for field in row_schema(())
            if field.name in KEY or field.name.startswith(f"{ITEM.name}__")
        ]
    )


def as_batch(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows, given by column name, as an Arrow batch. Int64 features may be given as floats."""
    several = list(rows)
    arrays = []
    for field in schema:
        column = [row[field.name] for row in several]
        if field.type == pa.int64():
            column = [None if value is None else int(value) for value in column]
        arrays.append(pa.array(column, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class TrainingFiles:
    """A folder of Parquet files, which replaces an earlier one once it is complete."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, without the files that a backfill left that was broken off.

        Raises `OutputError` when the folder holds anything but an earlier backfill.
        """
        self.folder = folder.absolute()
        if (
            self.folder.exists()
            and any(self.folder.iterdir())
            and not (self.folder / MANIFEST).exists()
        ):
            raise OutputError(
                f"{folder} holds something else than training rows: "
                "name an empty folder, or one that is not there"
            )
        self.writing = self.folder.with_name(f"{self.folder.name}.writing")
        shutil.rmtree(self.writing, ignore_errors=True)
        self.writing.mkdir(parents=True)
        self.rows = 0

    def write(self, part: int, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
        """Write these rows as file number `part`; without rows there is no file."""
        writer = None
        for batch in batches:
            writer = writer or pq.ParquetWriter(
                self.writing / f"part-{part:05}.parquet", schema, compression="zstd"
            )
            writer.write_batch(batch)
            self.rows += batch.num_rows
        if writer is not None:
            writer.close()

    def complete(self, manifest: dict[str, Any]) -> None:
        """Replace the old files with the new ones, including `manifest`."""
        (self.writing / MANIFEST).write_text(
            json.dumps(manifest, indent=2) + "\n", encoding="utf-8"
        )
        shutil.rmtree(self.folder, ignore_errors=True)
        self.writing.rename(self.folder)
