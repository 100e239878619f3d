"""Online reads of one visitor with 50 items, compared with Feast's own Python feature server.

Both servers have one process, the same Redis, and values of the same types. The same bodies go to
`POST /get-online-features` of both, in turns.

Feast wants lists of one length in a request, so the visitor's id is repeated for each item; both
servers look it up once. Feast is also asked in two requests, the visitor and then the items. The
ceiling is the faster of its two ways.

Feast is installed into a virtual environment of its own, since it pins other versions of our
libraries. Its feature repository has our view names, and Redis as its online store. The values in
it are made up, with the types of ours; the time of a read does not depend on them.
"""

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from bench.load import Load, answering, closed_loop, in_own_process, open_loop, request
from bench.measurements import BenchmarkError, Measurement
from slipstream.stores.online_reader import ITEMS_KEPT
from slipstream_cli.local.processes import Child, free_port
from slipstream_cli.local.terminal import Terminal

# The release of the contract tests' requests and answers.
FEAST_RELEASE: Final = "0.67.0"
REQUIREMENT: Final = f"feast[redis]=={FEAST_RELEASE}"
INSTALL_TIMEOUT_S: Final = 600.0
# Features of a visitor and of an item. The views also hold sequences, which the benchmark does not
# ask for.
VISITOR_FEATURES: Final = (
    "history_length", "distinct_items", "events_1h", "events_1d", "events_7d", "events_30d",
    "hours_since_last", "views", "carts", "purchases",
)  # fmt: skip
ITEM_FEATURES: Final = ("views", "purchases", "popularity", "events_1d", "events_7d", "age_hours")
_FLOATS: Final = ("hours_since_last", "popularity", "age_hours")

_REPOSITORY = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Float64, Int64, String

FLOATS = {floats!r}


def view(name, entity, features, sequences, source_name):
    batch = FileSource(
        name=name + "_file", path=name + ".parquet", timestamp_field="event_timestamp"
    )
    scalars = [Field(name=it, dtype=Float64 if it in FLOATS else Int64) for it in features]
    return FeatureView(
        name=name, entities=[entity], ttl=timedelta(days=90), schema=scalars + sequences,
        source=PushSource(name=source_name, batch_source=batch), online=True,
    )


visitor_entity = Entity(name="visitor", join_keys=["user_id"], value_type=ValueType.STRING)
item_entity = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
sequences = [
    Field(name="recent_items", dtype=Array(String)),
    Field(name="recent_times", dtype=Array(Int64)),
]
visitor = view("visitor", visitor_entity, {visitor!r}, sequences, "interactions")
item = view("item", item_entity, {item!r}, [], "items")
neighbours = view(
    "item_neighbours",
    item_entity,
    (),
    [Field(name="neighbours", dtype=Array(String))],
    "neighbours",
)
service = FeatureService(
    name="recommender", features=[visitor[["history_length", "views", "hours_since_last"]]]
)
"""

_FILL = """\
import json, sys
from datetime import datetime, timedelta, timezone

import pandas as pd
from feast import FeatureStore

plan = json.loads(sys.argv[1])
store = FeatureStore(repo_path=".")
now = datetime.now(timezone.utc)
for name, key, count, features, sequences in plan["views"]:
    rows = {key: [name[0] + str(number) for number in range(count)]}
    for place, feature in enumerate(features):
        kind = float if feature in plan["floats"] else int
        rows[feature] = [kind((number * 31 + place) % 97) for number in range(count)]
    for sequence in sequences:
        kind = int if "times" in sequence else str
        rows[sequence] = [[kind(number + step) for step in range(20)] for number in range(count)]
    rows["event_timestamp"] = [now - timedelta(minutes=number % 600) for number in range(count)]
    frame = pd.DataFrame(rows)
    frame.to_parquet(name + ".parquet")
    store.write_to_online_store(name, frame)
"""


class FeastUnavailableError(BenchmarkError):
    """Feast can't be installed or started here; the text says why."""


def installed_feast(directory: Path, say: Callable[[str], None]) -> Path:
    """Install Feast into a virtual environment in `directory`, unless it is there.

    Args:
        directory: The environment's folder, half a gigabyte.
        say: Called with a line before an installation.

    Returns:
        The environment's Python.
    """
    # Absolute, since it also runs in the folder of a feature repository.
    python = (directory / "bin" / "python").absolute()
    done = directory / f"feast-{FEAST_RELEASE}.installed"
    if done.exists():
        return python
    say(f"Installing {REQUIREMENT} into {directory}, once")
    _call([sys.executable, "-m", "venv", "--clear", str(directory)], None, "a virtual environment")
    _call(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            REQUIREMENT,
        ],
        None,
        REQUIREMENT,
    )
    done.touch()
    return python


def make_repository(
    python: Path, directory: Path, redis_url: str, project: str, visitors: int, items: int
) -> None:
    """Make and apply a feature repository, and fill its online store.

    Args:
        python: The Python of Feast's environment.
        redis_url: The online store; empty: an SQLite file.
        project: Ends the repository's keys in Redis, which others may use besides.
        visitors: Number of visitors: v0, v1, …
        items: Number of items: i0, i1, …
    """
    directory.mkdir(parents=True, exist_ok=True)
    address = urlsplit(redis_url)
    redis = {"type": "redis", "connection_string": f"{address.hostname}:{address.port}"}
    config = {
        "project": project,
        "provider": "local",
        "registry": "registry.db",
        "entity_key_serialization_version": 3,
        "online_store": redis if redis_url else {"type": "sqlite", "path": "online.db"},
        "offline_store": {"type": "file"},
    }
    # JSON is YAML.
    (directory / "feature_store.yaml").write_text(json.dumps(config), encoding="utf-8")
    definitions = _REPOSITORY.format(floats=_FLOATS, visitor=VISITOR_FEATURES, item=ITEM_FEATURES)
    (directory / "definitions.py").write_text(definitions, encoding="utf-8")
    _call([str(python.parent / "feast"), "apply"], directory, "feast apply")
    views = [
        ("visitor", "user_id", visitors, VISITOR_FEATURES, ("recent_items", "recent_times")),
        ("item", "item_id", items, ITEM_FEATURES, ()),
        ("item_neighbours", "item_id", items, (), ("neighbours",)),
    ]
    _call(
        [str(python), "-c", _FILL, json.dumps({"views": views, "floats": _FLOATS})],
        directory,
        "filling Feast's online store",
    )


@contextmanager
def running_feast(python: Path, repository: Path) -> Iterator[str]:
    """Serve the repository with one worker for the block; yield the URL."""
    port = free_port()
    # By default a worker restarts after a thousand requests, which would slow it down here.
    command = [
        str(python.parent / "feast"),
        "--chdir",
        str(repository),
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += [
        "--workers",
        "1",
        "--no-access-log",
        "--max-requests",
        "0",
        "--max-requests-jitter",
        "0",
    ]
    server = Child("feast", port, command, answering("/health"), grace_s=3.0).start(timeout_s=90)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


def _call(command: list[str], directory: Path | None, step: str) -> None:
    try:
        subprocess.run(
            command,
            cwd=directory,
            check=True,
            capture_output=True,
            timeout=INSTALL_TIMEOUT_S,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
        raise FeastUnavailableError(f"{step} failed: {' '.join(last) or error}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FeastUnavailableError(f"{step} failed: {error}") from error


# Entities that are read: v0, v1, … and i0, i1, …
VISITORS: Final = 1_000
ITEMS: Final = 1_000
ITEMS_ASKED: Final = 50
CONNECTIONS: Final = 8
_BODIES: Final = 500
_PATH: Final = "/get-online-features"


def run(
    url: str,
    redis_url: str,
    feast_environment: Path,
    repository: Path,
    terminal: Terminal,
    *,
    seconds: float = 4.0,
    rounds: int = 3,
) -> list[Measurement]:
    """Measure reads of the features service and of Feast; without Feast, of the former alone.

    Args:
        url: The features service, which knows the entities.
        feast_environment: Folder that Feast is installed into.
        repository: Folder for Feast's feature repository.
        rounds: Rounds of each server; the median counts.
    """
    whole, halves = _bodies()
    try:
        python = installed_feast(feast_environment, terminal.line)
        terminal.progress("filling and starting Feast's feature server")
        make_repository(python, repository, redis_url, "feast_bench", VISITORS, ITEMS)
        with running_feast(python, repository) as feast_url:
            _check_same(url, feast_url, whole[0])
            ours: list[Load] = []
            theirs: list[Load] = []
            in_two: list[Load] = []
            for number in range(1, rounds + 1):
                terminal.progress(f"comparing reads with Feast, round {number} of {rounds}")
                ours.append(_closed(url, whole, seconds))
                theirs.append(_closed(feast_url, whole, seconds))
                in_two.append(_closed(feast_url, halves, seconds))
            their_pace = _paced(feast_url, whole, _rate(theirs) / 2, seconds)
    except FeastUnavailableError as error:
        terminal.line(f"Feast is left out: {error}")
        ours, theirs = [_closed(url, whole, seconds) for _ in range(rounds)], []
    our_pace = _paced(url, whole, _rate(ours) / 2, seconds)
    row = _row(f"one visitor and {ITEMS_ASKED} items", ours, our_pace)
    requested = (
        f"{len(VISITOR_FEATURES)} features of the visitor, {len(ITEM_FEATURES)} of each item,"
        f" {CONNECTIONS} connections"
    )
    percentiles = "percentiles: open loop at half of that load"
    cached = (
        "items were not written meanwhile, so each was decoded once"
        f" (a reader keeps {ITEMS_KEPT:,})"
    )
    if not theirs:
        row["note"] = f"{requested}; {cached}; without Feast; {percentiles}"
        return [row]
    in_one_rate, in_two_rate = _rate(theirs), _rate(in_two) / 2
    row["ceiling"] = max(in_one_rate, in_two_rate)
    row["ratio"] = row["value"] / row["ceiling"]
    row["note"] = (
        f"ceiling: Feast {FEAST_RELEASE}'s Python feature server, one worker, so higher is"
        f" better; {requested}; {cached}; {percentiles}"
    )
    feast_row = _row("the same by Feast's feature server", theirs, their_pace)
    feast_row["note"] = f"in one request; split in two, {in_two_rate:.0f} answers/s; {percentiles}"
    return [row, feast_row]


def _row(name: str, loads: Sequence[Load], paced: Load) -> Measurement:
    return Measurement(
        name=name,
        value=_rate(loads),
        unit="requests/s",
        **paced.percentiles(),
    )


def _rate(loads: Sequence[Load]) -> float:
    return statistics.median(load.rate for load in loads)


def _bodies() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Build the bodies of single requests, and the same reads in two: the visitor, the items."""
    chance = random.Random(3)
    of_visitor = [f"visitor:{name}" for name in VISITOR_FEATURES]
    of_items = [f"item:{name}" for name in ITEM_FEATURES]
    whole, halves = [], []
    for number in range(_BODIES):
        visitor = f"v{number % VISITORS}"
        items = [f"i{item}" for item in chance.sample(range(ITEMS), ITEMS_ASKED)]
        entities = {"user_id": [visitor] * ITEMS_ASKED, "item_id": items}
        whole.append(
            {"features": of_visitor + of_items, "entities": entities, "full_feature_names": True}
        )
        halves.append(
            {"features": of_visitor, "entities": {"user_id": [visitor]}, "full_feature_names": True}
        )
        halves.append(
            {"features": of_items, "entities": {"item_id": items}, "full_feature_names": True}
        )
    return whole, halves


def _closed(url: str, bodies: Sequence[dict[str, Any]], seconds: float) -> Load:
    requests = [request("POST", url + _PATH, orjson.dumps(body)) for body in bodies]
    return in_own_process(
        closed_loop, url, requests, connections=CONNECTIONS, seconds=seconds
    ).succeeded()


def _paced(url: str, bodies: Sequence[dict[str, Any]], rate: float, seconds: float) -> Load:
    requests = [request("POST", url + _PATH, orjson.dumps(body)) for body in bodies]
    return in_own_process(open_loop, url, requests, rate=rate, seconds=seconds).succeeded()


def _check_same(url: str, feast_url: str, body: dict[str, Any]) -> None:
    """Check that both servers give the same features of the same rows, without gaps."""
    ours, theirs = (
        httpx.post(base + _PATH, json=body, timeout=30).json() for base in (url, feast_url)
    )
    for answer in (ours, theirs):
        statuses = {status for result in answer["results"] for status in result["statuses"]}
        lengths = {len(result["values"]) for result in answer["results"]}
        if (
            statuses != {"PRESENT"}
            or lengths != {ITEMS_ASKED}
            or any(None in result["values"] for result in answer["results"])
        ):
            raise BenchmarkError(f"an answer lacks values: {lengths} rows, statuses {statuses}")
    if sorted(ours["metadata"]["feature_names"]) != sorted(theirs["metadata"]["feature_names"]):
        raise BenchmarkError("the two servers gave different features")
