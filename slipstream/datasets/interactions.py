"""Files of interactions: Parquet or CSV (plain, .gz, .zst) with one event in each row.

An interaction file has `user_id`, `item_id` and `timestamp` (milliseconds since the epoch, UTC),
optionally `event_type` ("view" where it is missing), `value`, and any further columns, which are
kept. An item file has `item_id` and any attributes. A query file has `prefix`, the item ids of a
session so far, oldest first, and `label`, the item that came next.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from slipstream.contracts.vocabulary import MAX_ID_BYTES, SEARCH, VIEW


class InteractionFileError(ValueError):
    """A file is not in the format. The message names the file and the column or (1-based) row."""


def read_interactions(path: str | Path) -> pa.Table:
    """The events of a file, in file order.

    Returns:
        `user_id`, `item_id`, `event_type` (string), `timestamp` (int64 ms), then `value` (float64)
        where there is one, then the other columns. Only a search may have no item.

    Raises:
        InteractionFileError: A column is missing, an id is empty or too long, or a timestamp is no
            whole number of milliseconds.
        FileNotFoundError: There is no such file.
    """
    table = _read(Path(path), required=("user_id", "item_id", "timestamp"))
    if "event_type" not in table.column_names:
        table = table.append_column("event_type", pa.array([VIEW] * table.num_rows, pa.string()))
    event_type = pc.fill_null(table["event_type"].cast(pa.string()), VIEW)
    columns: dict[str, pa.ChunkedArray] = {
        "user_id": _ids(table, "user_id", path),
        "item_id": _ids(table, "item_id", path, optional=pc.is_in(event_type, pa.array([SEARCH]))),
        "event_type": pc.if_else(pc.equal(event_type, ""), VIEW, event_type),
        "timestamp": _timestamps(table, path),
    }
    if "value" in table.column_names:
        columns["value"] = _cast(table["value"], pa.float64(), "value", path)
    for name in table.column_names:
        columns.setdefault(name, table[name])
    return pa.table(columns)


def read_items(path: str | Path) -> pa.Table:
    """The items of a file: `item_id` (string, each once), then its attributes as they are.

    Raises InteractionFileError for a missing column or an empty, overlong or repeated id.
    """
    table = _read(Path(path), required=("item_id",))
    item_ids = _ids(table, "item_id", path)
    if len(pc.unique(item_ids)) != table.num_rows:
        seen: set[str] = set()
        for row, item_id in enumerate(item_ids.to_pylist(), start=1):
            if item_id in seen:
                raise InteractionFileError(
                    f"{path}: row {row}: item_id {item_id!r} appears a second time"
                )
            seen.add(item_id)
    return table.set_column(table.column_names.index("item_id"), "item_id", item_ids)


def read_queries(path: str | Path) -> pa.Table:
    """The queries of a file: `prefix` (list of string, oldest first) and `label` (string).

    In a CSV file the items of a prefix are separated by spaces. Raises InteractionFileError for a
    missing column or an empty label.
    """
    table = _read(Path(path), required=("prefix", "label"))
    prefix = table["prefix"]
    if not (pa.types.is_list(prefix.type) or pa.types.is_large_list(prefix.type)):
        prefix = pc.split_pattern_regex(pc.utf8_trim_whitespace(prefix.cast(pa.string())), r"\s+")
    return pa.table(
        {"prefix": prefix.cast(pa.list_(pa.string())), "label": _ids(table, "label", path)}
    )


def _read(path: Path, required: tuple[str, ...]) -> pa.Table:
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    try:
        if suffixes and suffixes[-1] in (".parquet", ".pq"):
            table = pq.read_table(path)
        elif ".csv" in suffixes[-2:]:
            texts = ("user_id", "item_id", "event_type", "timestamp", "value", "prefix", "label")
            options = pacsv.ConvertOptions(
                column_types={name: pa.string() for name in texts}, strings_can_be_null=True
            )
            with pa.input_stream(str(path), compression="detect") as stream:
                table = pacsv.read_csv(stream, convert_options=options)
        else:
            raise InteractionFileError(
                f"{path}: expected .parquet or .csv, the latter also with .gz or .zst"
            )
    except pa.ArrowInvalid as error:
        raise InteractionFileError(f"{path}: cannot be read: {error}") from error
    missing = [name for name in required if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise InteractionFileError(
            f"{path}: missing column {', '.join(missing)}; the file has {found}"
        )
    return table


def _ids(
    table: pa.Table, name: str, path: str | Path, optional: pa.ChunkedArray | None = None
) -> pa.ChunkedArray:
    """The column as strings.

    An id must not be too long, nor empty unless `optional` is true there.
    """
    column = table[name].cast(pa.string())
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    absent = pc.is_null(column)
    _refuse(absent if optional is None else pc.and_not(absent, optional), path, f"{name} is empty")
    too_long = pc.greater(pc.fill_null(pc.binary_length(column), 0), MAX_ID_BYTES)
    _refuse(too_long, path, f"{name} is longer than {MAX_ID_BYTES} bytes")
    return column


def _timestamps(table: pa.Table, path: str | Path) -> pa.ChunkedArray:
    column = table["timestamp"]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False)
    column = _cast(column, pa.int64(), "timestamp", path)
    _refuse(pc.is_null(column), path, "timestamp is empty")
    _refuse(pc.less(column, 0), path, "timestamp is negative")
    return column


def _cast(
    column: pa.ChunkedArray, target: pa.DataType, name: str, path: str | Path
) -> pa.ChunkedArray:
    try:
        return column.cast(target)
    except pa.ArrowInvalid as error:
        for row, value in enumerate(column, start=1):
            try:
                value.cast(target)
            except pa.ArrowInvalid:
                raise InteractionFileError(
                    f"{path}: row {row}: {name} {value.as_py()!r} is not {target}"
                ) from error
        raise


def _refuse(bad: pa.ChunkedArray, path: str | Path, complaint: str) -> None:
    row = pc.index(bad, True).as_py()
    if row >= 0:
        raise InteractionFileError(f"{path}: row {row + 1}: {complaint}")
