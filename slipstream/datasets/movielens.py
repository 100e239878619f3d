"""MovieLens-100K: 100,000 ratings of 1,682 films by 943 people in 1997 and 1998.

F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015. It
has real timestamps, titles and genres. The licence forbids redistribution, so each user fetches it:
from GroupLens, or else from inside the wheel of RecBole, which carries it as an example.
"""

import csv
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

GROUPLENS_URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
WHEEL = "recbole==1.2.1"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k/"
EVENTS = 100_000

_GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *(
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
_ARTICLE = re.compile(
    r"(?P<name>[^()]+), "
    r"(?P<article>The|A|An|Il|La|Le|Les|L'|El|Los|Las|Der|Die|Das|Det|Den|O)(?=$| \(|\))"
)
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")


class DatasetError(Exception):
    """The data can't be had, or is damaged. The message says what to do."""


@dataclass(frozen=True)
class EventFiles:
    """A file of events and one of items, in the format of `slipstream.datasets.interactions`."""

    interactions: Path
    items: Path


def fetch(
    cache: Path, folder: Path | None = None, say: Callable[[str], None] = lambda _: None
) -> EventFiles:
    """Bring MovieLens-100K into the cache, and return its files.

    Each event is a `rate` with the rating as `value`; each item has `title`, `categories`,
    `release_year`.

    Args:
        cache: The folder that keeps the files.
        folder: A folder with u.data and u.item, or RecBole's ml-100k.inter and ml-100k.item.
            Without one: GroupLens, else the package index.
        say: Called with each attempt, in words.

    Raises:
        DatasetError: No source has the data.
    """
    files = EventFiles(cache / "interactions.parquet", cache / "items.parquet")
    if folder is None and files.interactions.exists() and files.items.exists():
        return files
    if folder is not None:
        members = {
            path.name: path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.name in _WANTED
        }
    else:
        members = _download(say)
    interactions, items = convert(members)
    cache.mkdir(parents=True, exist_ok=True)
    for table, path in ((items, files.items), (interactions, files.interactions)):
        partial = path.with_suffix(".part")
        pq.write_table(table, partial)
        partial.rename(path)
    return files


_WANTED = frozenset({"u.data", "u.item", "ml-100k.inter", "ml-100k.item"})


def _download(say: Callable[[str], None]) -> dict[str, bytes]:
    failures = []
    for origin, get in (
        ("GroupLens", _from_grouplens),
        ("the package index (inside RecBole's wheel)", _from_wheel),
    ):
        say(f"fetching MovieLens-100K from {origin}")
        try:
            return get()
        except (httpx.HTTPError, OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            failures.append(f"{origin}: {_first_line(error)}")
    raise DatasetError(
        "MovieLens-100K can't be fetched:\n  "
        + "\n  ".join(failures)
        + f"\nUnpack {GROUPLENS_URL} on a machine that reaches it, "
        "and give the folder with --movielens."
    )


def _from_grouplens() -> dict[str, bytes]:
    answer = httpx.get(
        GROUPLENS_URL, timeout=httpx.Timeout(20, connect=4), follow_redirects=True
    ).raise_for_status()
    return _members(io.BytesIO(answer.content), "ml-100k/")


def _from_wheel() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
            directory,
            WHEEL,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=90)
        return _members(next(Path(directory).glob("*.whl")), WHEEL_FOLDER)


def _members(archive: Path | io.BytesIO, prefix: str) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        names = [
            name
            for name in opened.namelist()
            if name.startswith(prefix) and Path(name).name in _WANTED
        ]
        return {Path(name).name: opened.read(name) for name in names}


def convert(members: Mapping[str, bytes]) -> tuple[pa.Table, pa.Table]:
    """Interactions and items from the original files by name, in the order of the files.

    Raises DatasetError.
    """
    if {"u.data", "u.item"} <= members.keys():
        events = list(_rows(members["u.data"], "\t", "utf-8"))
        items = [_grouplens_item(row) for row in _rows(members["u.item"], "|", "latin-1")]
    elif {"ml-100k.inter", "ml-100k.item"} <= members.keys():
        events = list(_rows(members["ml-100k.inter"], "\t", "utf-8"))[1:]
        items = [
            _recbole_item(row) for row in list(_rows(members["ml-100k.item"], "\t", "utf-8"))[1:]
        ]
    else:
        raise DatasetError(
            "no u.data and u.item, nor ml-100k.inter and ml-100k.item, are in what was given"
        )
    if len(events) != EVENTS:
        raise DatasetError(
            f"MovieLens-100K has {EVENTS:,} ratings, what was found has {len(events):,}"
        )
    users, item_ids, ratings, seconds = zip(*events, strict=True)
    interactions = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(item_ids, pa.string()),
            "event_type": pa.array(["rate"] * len(events), pa.string()),
            "timestamp": pa.array([int(second) * 1000 for second in seconds], pa.int64()),
            "value": pa.array([float(rating) for rating in ratings], pa.float64()),
        }
    )
    return interactions, pa.Table.from_pylist(items, schema=_ITEM_SCHEMA)


_ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("release_year", pa.int64()),
    ]
)


def readable_title(title: str) -> str:
    """The title in spoken order: "Postman, The (1997)" is "The Postman"."""
    return _ARTICLE.sub(_article_first, _YEAR.sub("", title)).strip()


def _article_first(match: re.Match[str]) -> str:
    name, article = match["name"], match["article"]
    return f"{article}{name}" if article.endswith("'") else f"{article} {name}"


def _grouplens_item(row: list[str]) -> dict[str, object]:
    item_id, title, *_dates, _imdb = row[:5]
    year = _YEAR.search(title)
    genres = [name for name, flag in zip(_GENRES, row[5:], strict=True) if flag == "1"]
    return _item(item_id, title, genres, year[1] if year else "")


def _recbole_item(row: list[str]) -> dict[str, object]:
    item_id, title, year, genres = row
    return _item(item_id, title, genres.split(), year)


def _item(item_id: str, title: str, genres: Iterable[str], year: str) -> dict[str, object]:
    return {
        "item_id": item_id,
        "title": readable_title(title),
        "categories": [genre for genre in genres if genre != "unknown"],
        "release_year": int(year) if year.isdigit() else None,
    }


def _rows(content: bytes, delimiter: str, encoding: str) -> Iterable[list[str]]:
    return (
        row
        for row in csv.reader(
            io.StringIO(content.decode(encoding)), delimiter=delimiter, quoting=csv.QUOTE_NONE
        )
        if row
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or b"").decode(errors="replace").strip().rpartition("\n")[2] or str(
            error
        )
    return str(error).partition("\n")[0] or type(error).__name__
