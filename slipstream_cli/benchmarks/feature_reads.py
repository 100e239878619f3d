"""Online reads of one visitor with 50 items, compared with Feast's own Python feature server.

Both servers have one process, the same Redis, and values of the same types. The same bodies go to
`POST /get-online-features` of both, in turns.

Feast wants lists of one length in a request, so the visitor's id is repeated for each item; both
servers look it up once. Feast is also asked in two requests, the visitor and then the items. The
ceiling is the faster of its two ways.
"""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from slipstream.stores.online_reader import ITEMS_KEPT
from slipstream_cli.benchmarks import feast_server
from slipstream_cli.benchmarks.feast_server import (
    ITEM_FEATURES,
    VISITOR_FEATURES,
    FeastUnavailableError,
)
from slipstream_cli.benchmarks.load import Load, closed_loop, in_own_process, open_loop, request
from slipstream_cli.benchmarks.measurements import BenchmarkError, Measurement
from slipstream_cli.local.terminal import Terminal

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
        redis_url: The Redis for Feast.
        feast_environment: Folder that Feast is installed into.
        repository: Folder for Feast's feature repository.
        terminal: Shows progress.
        seconds: Duration of each round.
        rounds: Rounds of each server; the median counts.
    """
    whole, halves = _bodies()
    try:
        python = feast_server.installed(feast_environment, terminal.line)
        terminal.progress("filling and starting Feast's feature server")
        feast_server.make_repository(python, repository, redis_url, "feast_bench", VISITORS, ITEMS)
        with feast_server.running_feast(python, repository) as feast_url:
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
        f"ceiling: Feast {feast_server.RELEASE}'s Python feature server, one worker, so higher is"
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
        p50_ms=paced.percentile(50),
        p90_ms=paced.percentile(90),
        p99_ms=paced.percentile(99),
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
    return _answered(
        in_own_process(closed_loop, url, requests, connections=CONNECTIONS, seconds=seconds)
    )


def _paced(url: str, bodies: Sequence[dict[str, Any]], rate: float, seconds: float) -> Load:
    requests = [request("POST", url + _PATH, orjson.dumps(body)) for body in bodies]
    return _answered(in_own_process(open_loop, url, requests, rate=rate, seconds=seconds))


def _answered(load: Load) -> Load:
    if load.failed or not load.answered:
        raise BenchmarkError(
            f"{load.failed} requests failed, {load.answered} were answered: {load.statuses}"
        )
    return load


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
