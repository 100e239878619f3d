import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipstream.datasets.interactions import (
    InteractionFileError,
    read_interactions,
    read_items,
    read_queries,
)

CSV = (
    "user_id,item_id,event_type,timestamp,value,page\n"
    "007,42,rate,1700000000000,4.5,1\n"
    "u,i,,1700000000001,,2\n"
)


def _file(tmp_path: Path, text: str, name: str = "events.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", ["csv", "csv.gz", "csv.zst", "parquet"])
def test_read_interactions_reads_every_form_alike(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"events.{form}"
    if form == "csv.gz":
        path.write_bytes(gzip.compress(CSV.encode()))
    elif form == "csv.zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(CSV.encode())
    elif form == "parquet":
        pq.write_table(read_interactions(_file(tmp_path, CSV)), path)
    else:
        path.write_text(CSV)
    table = read_interactions(path)
    assert table.to_pylist() == [
        {
            "user_id": "007",
            "item_id": "42",
            "event_type": "rate",
            "timestamp": 1_700_000_000_000,
            "value": 4.5,
            "page": 1,
        },
        {
            "user_id": "u",
            "item_id": "i",
            "event_type": "view",
            "timestamp": 1_700_000_000_001,
            "value": None,
            "page": 2,
        },
    ]


def test_read_interactions_takes_a_missing_event_type_for_a_view(tmp_path: Path) -> None:
    table = read_interactions(_file(tmp_path, "user_id,item_id,timestamp\nu,i,1\n"))
    assert table["event_type"].to_pylist() == ["view"]


def test_read_interactions_turns_timestamps_of_any_unit_into_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    moment = pa.array([1_700_000_000_123_456], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [7], "item_id": ["i"], "timestamp": moment}), path)
    assert read_interactions(path).select(["user_id", "timestamp"]).to_pylist() == [
        {"user_id": "7", "timestamp": 1_700_000_000_123}
    ]


def test_read_interactions_lets_a_search_have_no_item(tmp_path: Path) -> None:
    table = read_interactions(
        _file(tmp_path, "user_id,item_id,event_type,timestamp\nu,,search,1\n")
    )
    assert table["item_id"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("user_id,timestamp\nu,1\n", "missing column item_id"),
        ("user_id,item_id,timestamp\nu,i,1\nu,,2\n", "row 2: item_id is empty"),
        ("user_id,item_id,timestamp\n,i,1\n", "row 1: user_id is empty"),
        ("user_id,item_id,timestamp\nu,i,1\nu,i,noon\n", "row 2: timestamp 'noon' is not int64"),
        ("user_id,item_id,timestamp\nu,i,\n", "row 1: timestamp is empty"),
        ("user_id,item_id,timestamp\nu,i,-5\n", "row 1: timestamp is negative"),
        ("user_id,item_id,timestamp,value\nu,i,1,much\n", "row 1: value 'much' is not double"),
        (
            f"user_id,item_id,timestamp\nu,i,1\nu,{'é' * 129},2\n",
            "row 2: item_id is longer than 256 bytes",
        ),
        ("user_id,item_id,timestamp\nu,i\n", "cannot be read"),
    ],
)
def test_read_interactions_names_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InteractionFileError, match=complaint):
        read_interactions(_file(tmp_path, text))


def test_read_interactions_refuses_another_ending(tmp_path: Path) -> None:
    with pytest.raises(InteractionFileError, match=r"expected \.parquet or \.csv"):
        read_interactions(_file(tmp_path, "{}", "events.json"))


def test_read_interactions_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"events\.csv"):
        read_interactions(tmp_path / "events.csv")


def test_read_items_keeps_attributes_and_refuses_a_second_row(tmp_path: Path) -> None:
    assert read_items(_file(tmp_path, "item_id,title\n1,One\n")).to_pylist() == [
        {"item_id": "1", "title": "One"}
    ]
    with pytest.raises(InteractionFileError, match="row 3: item_id 'a' appears a second time"):
        read_items(_file(tmp_path, "item_id\na\nb\na\n"))


def test_read_queries_reads_lists_and_words(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    pq.write_table(pa.table({"prefix": [["1", "2"]], "label": ["3"]}), path)
    expected = [{"prefix": ["1", "2"], "label": "3"}]
    assert read_queries(path).to_pylist() == expected
    assert read_queries(_file(tmp_path, "prefix,label\n1 2,3\n")).to_pylist() == expected
