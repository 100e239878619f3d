"""Feast's own Python feature server, for comparison with the features service.

It is installed into a separate virtual environment, since it pins other versions of our libraries.
Its feature repository has our view names, and Redis as its online store. The values in it are made
up, with the types of ours; the time of a read does not depend on them.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from slipstream_cli.benchmarks.load import answering
from slipstream_cli.benchmarks.measurements import BenchmarkError
from slipstream_cli.local.processes import Child, free_port

# The release of the contract tests' requests and answers.
RELEASE: Final = "0.67.0"
REQUIREMENT: Final = f"feast[redis]=={RELEASE}"
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


def installed(directory: Path, say: Callable[[str], None]) -> Path:
    """Install Feast into a virtual environment in `directory`, unless it is there.

    Args:
        directory: The environment's folder, half a gigabyte.
        say: Called with a line before an installation.

    Returns:
        The environment's Python.
    """
    # Absolute, since it also runs in the folder of a feature repository.
    python = (directory / "bin" / "python").absolute()
    done = directory / f"feast-{RELEASE}.installed"
    if done.exists():
        return python
    say(f"Installing {REQUIREMENT} into {directory}, once")
    _run([sys.executable, "-m", "venv", "--clear", str(directory)], None, "a virtual environment")
    _run(
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
        directory: The repository's folder.
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
    _run([str(python.parent / "feast"), "apply"], directory, "feast apply")
    views = [
        ("visitor", "user_id", visitors, VISITOR_FEATURES, ("recent_items", "recent_times")),
        ("item", "item_id", items, ITEM_FEATURES, ()),
        ("item_neighbours", "item_id", items, (), ("neighbours",)),
    ]
    _run(
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


def _run(command: list[str], directory: Path | None, step: str) -> None:
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
