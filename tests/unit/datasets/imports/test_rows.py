"""Files as they come: a table in any delimiter, encoding and compression reads back the same."""

import csv
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.datasets.imports.rows import find_form, read_rows
from slipstream.datasets.imports.sources import ImportFileError, Row, find_files

HEADER = ("user_id", "item_id", "titel", "wert")


def rows_of(path: Path | str) -> list[Row]:
    (file,) = find_files(str(path))
    return list(read_rows(file, find_form(file)))


def archive(*names: str, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name in names:
            written.writestr(name, content)
    return buffer.getvalue()


def zipped(data: bytes) -> bytes:
    return archive("export.csv", content=data)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACKINGS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zipped, zstd]
# Texts of Western Europe, with what makes CSV hard. No NULs, and no lone line ends.
CELLS = st.text(st.sampled_from("abcXYZ019 ,;|\t\"'äöüßéèñ€\n"), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip())
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=2, max_size=8),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]),
    st.sampled_from(PACKINGS),
)
def test_a_table_reads_back_in_any_form(
    table: list[tuple[str, ...]], delimiter: str, encoding: str, packed: Callable[[bytes], bytes]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([HEADER, *table])
    if encoding == "cp1252" and text.getvalue().isascii():
        encoding = "utf-8"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export"
        path.write_bytes(packed(text.getvalue().encode(encoding)))
        rows = rows_of(path)
    assert [tuple(row.cells.values()) for row in rows] == table
    assert all(tuple(row.cells) == HEADER and not row.fault for row in rows)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('sep=;\n\nuser_id;item_id\n\nu;"two\nlines"\nv;x\n')
    assert [(row.line, row.cells["user_id"]) for row in rows_of(tmp_path / "a.csv")] == [
        (5, "u"),
        (7, "v"),
    ]


def test_a_bad_row_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        "user_id,item_id,title\nu,i,Café au lait öäüß éèêëáà\nu,i\nu,i,t,more\nu,i,t,\n".encode()
        + b"v,i,\xff\nw,j,t\n"
    )
    rows = rows_of(tmp_path / "a.csv")
    assert [(row.line, row.fault) for row in rows] == [
        (2, ""),
        (3, "has 2 cells, the header has 3"),
        (4, "has 4 cells, the header has 3"),
        (5, ""),
        (6, "has bytes that are not utf-8"),
        (7, ""),
    ]


def test_a_stray_quote_costs_its_row(tmp_path: Path) -> None:
    lines = ["user_id,item_id,title", "u,i,t", 'u,"i,t', "v,i,t", 'w,"i",t', "x,i,t"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    rows = rows_of(tmp_path / "a.csv")
    assert [(row.line, row.cells.get("user_id"), row.fault) for row in rows] == [
        (2, "u", ""),
        (3, None, "has a quote that does not close, or in a wrong place"),
        (4, "v", ""),
        (5, "w", ""),
        (6, "x", ""),
    ]
    (tmp_path / "a.csv").write_text('user_id,item_id,title\nu,i,5" nail\nv,"i"j,t\n')
    assert [bool(row.fault) for row in rows_of(tmp_path / "a.csv")] == [False, True]
    (tmp_path / "a.csv").write_text("\n".join(lines[:3]) + "\n" + "v,i,t\n" * 30_000)
    assert sum(not row.fault for row in rows_of(tmp_path / "a.csv")) == 30_001


def test_json_lines_and_arrays(tmp_path: Path) -> None:
    events = [{"user_id": "u", "tags": ["a", "b"], "n": 1}, {"user_id": "v", "other": None}]
    (tmp_path / "lines").write_text(
        "\n".join([json.dumps(events[0]), "{broken", "[]", json.dumps(events[1])])
    )
    rows = rows_of(tmp_path / "lines")
    assert [row.cells for row in rows if not row.fault] == events
    assert [(row.line, row.fault.partition(":")[0]) for row in rows if row.fault] == [
        (2, "is not JSON"),
        (3, "is not a JSON object"),
    ]
    (tmp_path / "array").write_text(json.dumps(events, indent=2))
    assert [row.cells for row in rows_of(tmp_path / "array")] == events
    call = {"type": "track", "event": "Product Viewed", "properties": {"sku": "i"}}
    (tmp_path / "segment").write_text(json.dumps(call))
    assert rows_of(tmp_path / "segment")[0].cells == {
        "sku": "i",
        "type": "track",
        "event": "Product Viewed",
    }


@pytest.mark.parametrize("indent", [None, 1])
def test_one_list_in_an_object_is_the_rows(tmp_path: Path, indent: int | None) -> None:
    orders = [{"id": 1, "when": "2026-11-02"}, {"id": 2, "when": "2026-11-03"}]
    (tmp_path / "orders").write_text(json.dumps({"orders": orders}, indent=indent))
    assert [row.cells for row in rows_of(tmp_path / "orders")] == orders


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    at = datetime(2026, 10, 1, tzinfo=UTC)
    table = pa.table(
        {"user_id": ["u"], "ts": pa.array([at], pa.timestamp("us", "UTC")), "raw": [b"caf\xc3\xa9"]}
    )
    pq.write_table(table, tmp_path / "a")
    assert rows_of(tmp_path / "a") == [Row(1, {"user_id": "u", "ts": at, "raw": "café"})]


def test_folders_and_urls(tmp_path: Path) -> None:
    folder = tmp_path / "export" / "day=1"
    folder.mkdir(parents=True)
    (folder / "part-0.csv").write_text("user_id,item_id\nu,i\n")
    (folder / "part-1.csv").write_text("user_id,item_id\nv,i\n")
    for marker in ("_SUCCESS", ".part.crc"):
        (folder / marker).write_text("x")
    for where in (str(tmp_path / "export"), f"file://{tmp_path}/export"):
        assert [file.name for file in find_files(where)] == [
            f"{where}/day=1/part-0.csv",
            f"{where}/day=1/part-1.csv",
        ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"1,2,3\n4,5,6\n", "no column names"),
        (b"a,a\n1,2\n", "two columns are called a"),
        (b"PK\x03\x04broken", "can't be read"),
        (archive("xl/workbook.xml", "[Content_Types].xml"), r"save as CSV \(UTF-8\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel files aren't read"),
        (archive("a.csv", "b.csv"), "the archive holds 2 files, and one is expected: unpack it"),
        (b"PAR1broken", "can't be read"),
        (b"{broken\n", "no JSON objects"),
        (bytes(range(256)) * 40, "neither a text file nor Parquet"),
    ],
)
def test_what_is_no_export_is_told(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ImportFileError, match=complaint):
        rows_of(tmp_path / "a")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="no such file"):
        find_files(str(tmp_path / "nothing"))
    with pytest.raises(ImportFileError, match="no files"):
        find_files(str(tmp_path))
