import hashlib
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slipstream.datasets import movielens
from slipstream.datasets.interactions import read_interactions, read_items
from slipstream.datasets.movielens import DatasetError, convert, fetch, readable_title

AWAY = movielens.SOURCES[0]._replace(archive="http://127.0.0.1:1/ml-100k.zip")
WHEEL = "recbole-1.2.1-py3-none-any.whl"
FLAGS_DRAMA = "|".join("1" if name == "Drama" else "0" for name in movielens._GENRES.split())
U_ITEM = (
    f"1|Postman, The (1997)|01-Jan-1997||http://imdb|{FLAGS_DRAMA}\n"
    f"2|Amélie|||http://imdb|1{'|0' * 18}\n"
).encode("latin-1")
RECBOLE_ITEM = (
    b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    b"1\tPostman, The\t1997\tDrama\n2\tunkonwn\t\tunknown\n"
)


def _events(count: int = movielens.EVENTS) -> bytes:
    return b"".join(
        b"%d\t%d\t%d\t%d\n" % (n % 943, 1 + n % 2, 1 + n % 5, 874_724_710 + n) for n in range(count)
    )


RECBOLE = {
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + _events(),
    "ml-100k.item": RECBOLE_ITEM,
}


@pytest.mark.parametrize(
    ("title", "readable"),
    [
        ("Postman, The (1997)", "The Postman"),
        ("Toy Story (1995)", "Toy Story"),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly"),
        (
            "Horseman on the Roof, The (Hussard sur le toit, Le) (1995)",
            "The Horseman on the Roof (Le Hussard sur le toit)",
        ),
        ("Paris, Texas (1984)", "Paris, Texas"),
        ("Appartement, L' (1996)", "L'Appartement"),
        ("2001: A Space Odyssey", "2001: A Space Odyssey"),
    ],
)
def test_readable_title_puts_the_article_first(title: str, readable: str) -> None:
    assert readable_title(title) == readable


def test_convert_reads_grouplens_files() -> None:
    interactions, items = convert({"u.data": _events(), "u.item": U_ITEM})
    assert interactions.slice(0, 1).to_pylist() == [
        {
            "user_id": "0",
            "item_id": "1",
            "event_type": "rate",
            "timestamp": 874_724_710_000,
            "value": 1.0,
        }
    ]
    assert items.to_pylist() == [
        {"item_id": "1", "title": "The Postman", "categories": ["Drama"], "release_year": 1997},
        {"item_id": "2", "title": "Amélie", "categories": [], "release_year": None},
    ]


def test_convert_reads_recbole_files() -> None:
    interactions, items = convert(RECBOLE)
    assert interactions.num_rows == movielens.EVENTS
    assert items.to_pylist()[0] == {
        "item_id": "1",
        "title": "The Postman",
        "categories": ["Drama"],
        "release_year": 1997,
    }
    assert items.to_pylist()[1]["categories"] == []


def test_convert_refuses_a_file_of_another_size() -> None:
    with pytest.raises(DatasetError, match="has 100,000 ratings, what was found has 99,999"):
        convert({"u.data": _events(99_999), "u.item": U_ITEM})


def test_fetch_takes_a_folder_and_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "given" / "ml-100k"
    folder.mkdir(parents=True)
    (folder / "u.data").write_bytes(_events())
    (folder / "u.item").write_bytes(U_ITEM)
    files = fetch(tmp_path / "cache", tmp_path / "given")
    assert read_interactions(files.interactions).num_rows == movielens.EVENTS
    assert read_items(files.items).num_rows == 2
    assert fetch(tmp_path / "cache") == files


def test_fetch_says_what_is_missing_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no u\.data and u\.item"):
        fetch(tmp_path / "cache", tmp_path)


def test_fetch_goes_to_the_package_index_where_grouplens_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        for name, content in RECBOLE.items():
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", content)
        wheel.writestr(
            "recbole-1.2.1.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n",
        )
        wheel.writestr(
            "recbole-1.2.1.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("recbole-1.2.1.dist-info/RECORD", "")
    digest = hashlib.sha256((tmp_path / WHEEL).read_bytes()).hexdigest()
    monkeypatch.setattr(movielens, "SOURCES", (AWAY, movielens.SOURCES[1]._replace(sha256=digest)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    heard: list[str] = []
    files = fetch(tmp_path / "cache", say=heard.append)
    assert pq.read_metadata(files.interactions).num_rows == movielens.EVENTS
    assert [line.partition(" from ")[2][:9] for line in heard] == ["GroupLens", "the packa"]
    monkeypatch.setattr(movielens, "SOURCES", [movielens.SOURCES[1]._replace(sha256="another")])
    with pytest.raises(DatasetError, match="another file than the known one"):
        fetch(tmp_path / "again")


def test_fetch_says_what_to_do_where_nothing_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens, "SOURCES", (AWAY, movielens.SOURCES[1]))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        DatasetError, match=r"(?s)GroupLens: .*package index.*give the folder with --movielens"
    ):
        fetch(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
