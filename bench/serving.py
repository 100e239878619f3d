"""Benchmark of personalised recommendations against an empty route.

Requests/s of `GET /v1/recommendations/{visitor}` in a closed loop are measured against an empty
FastAPI route under the same server settings, in turns. Then the latency of the same requests is
measured in an open loop, at half of that rate or at a given one. These requests bypass kept lists
(`Cache-Control: no-cache`). The last part allows kept lists, while visitors click.
Every visitor is known to the online store and to the model. Only answers by the model count, by
serving's counter.
"""

import os
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx
import orjson

from bench import serving_clicks, serving_rules, serving_swaps
from bench.ceiling import running_empty_route
from bench.load import Load, closed_loop, in_own_process, open_loop, request
from bench.measurements import BenchmarkError, Measurement
from slipstream.contracts.services import SERVICES

SECONDS: Final = 4.0
_STAGE: Final = re.compile(
    r'^slipstream_recommendation_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', re.MULTILINE
)
_REQUESTS: Final = re.compile(r"^slipstream_recommendations_total\{.*\} (\S+)$", re.MULTILINE)
_STAT: Final = Path("/proc/stat")
_CPU: Final = re.compile(r"^process_cpu_seconds_total (\S+)$", re.MULTILINE)


def stage_times(url: str, requests: Sequence[bytes]) -> list[Measurement]:
    """Measure one request at a time, so that no stage's time holds a wait for another request.

    Returns:
        The latency, the process's CPU, and each stage, in microseconds a request.
    """
    cpu, stages, answered = _spent(url)
    load = in_own_process(closed_loop, url, requests, connections=1, seconds=SECONDS, warm_up_s=0.0)
    cpu_after, stages_after, answered_after = _spent(url)
    count = answered_after - answered
    if load.failed or not count:
        raise BenchmarkError(f"{load.failed} requests failed, {count:g} were answered")
    return [
        Measurement(
            name="one request at a time",
            value=1e6 * load.seconds / load.answered,
            unit="us/request",
            note="from the client's side, with the network and the client's own time",
        ),
        Measurement(
            name="of it, CPU of serving",
            value=1e6 * (cpu_after - cpu) / count,
            unit="us/request",
            note="all threads of the process",
        ),
        *(
            Measurement(
                name=f"of it, the stage {stage}",
                value=1e6 * (spent - stages.get(stage, 0.0)) / count,
                unit="us/request",
            )
            for stage, spent in stages_after.items()
            if spent > stages.get(stage, 0.0)
        ),
    ]


def at_full_load(
    url: str, services: Mapping[str, str], requests: Sequence[bytes], connections: int
) -> list[Measurement]:
    """Measure which processes have the machine's processors at full load. Needs Linux.

    Args:
        services: The URLs of all services by name, which run on this machine.

    Returns:
        Microseconds of processor time a request: of each service, of all other processes, and
        idle.
    """
    before, (used, idle), (_, _, answered) = _processor_s(services), _machine_s(), _spent(url)
    load = in_own_process(closed_loop, url, requests, connections=connections, seconds=SECONDS)
    (used_after, idle_after), after = _machine_s(), _processor_s(services)
    count = _spent(url)[2] - answered
    if load.failed or not count:
        raise BenchmarkError(f"{load.failed} requests failed, {count:g} were answered")
    spent = {name: after[name] - seconds for name, seconds in before.items()}
    spent["broker, Redis, load generator and the system"] = used_after - used - sum(spent.values())
    spent["idle"] = idle_after - idle
    return [
        Measurement(
            name=f"at full load, processors: {name}",
            value=1e6 * seconds / count,
            unit="us/request",
            note="all its threads" if name in services else "",
        )
        for name, seconds in sorted(spent.items(), key=lambda each: -each[1])
    ]


def _processor_s(services: Mapping[str, str]) -> dict[str, float]:
    return {
        name: sum(map(float, _CPU.findall(httpx.get(f"{url}/metrics", timeout=10).text)))
        for name, url in services.items()
    }


def _machine_s() -> tuple[float, float]:
    """The seconds that the processors worked and rested since the start, `proc_stat(5)`."""
    fields = [int(each) for each in _STAT.read_text().partition("\n")[0].split()[1:9]]
    rested = fields[3] + fields[4]
    ticks = os.sysconf("SC_CLK_TCK")
    return (sum(fields) - rested) / ticks, rested / ticks


def _spent(url: str) -> tuple[float, dict[str, float], float]:
    """The CPU seconds of the process, the seconds of each stage, and the answers so far."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return (
        sum(map(float, _CPU.findall(text))),
        {stage: float(seconds) for stage, seconds in _STAGE.findall(text)},
        sum(map(float, _REQUESTS.findall(text))),
    )


VISITORS = 500
HISTORY = 20
# Length of the lists.
N: Final = 10
CONNECTIONS: Final = 16
# Rounds of the figure and of the ceiling, in turns, of which the median counts; and their length.
ROUNDS: Final = 3
ROUND_S: Final = 4.0
_PATIENCE_S = 60.0
_ANSWERS = re.compile(r'^slipstream_recommendations_total\{step="(\w+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True)
class ServingLoad:
    """The loads of a run.

    Attributes:
        rate: Requests/s of the open loop; None: half of what the closed loop gives.
        swaps: Models taken into service one after another during full load.
        times: Whether the times of the stages are measured, too.
        rules: Whether slates with rules are measured, too.
    """

    rate: float | None = None
    swaps: int = 0
    times: bool = False
    rules: bool = False


def run(
    url: str,
    peers: Mapping[str, str],
    clicks: serving_clicks.Clicks,
    load: ServingLoad,
    *,
    token: str = "",
) -> list[Measurement]:
    """Measure a serving service. Takes about a minute, and four seconds for each swap.

    Args:
        peers: The other services' URLs by name: training for swaps, monitoring for rules.
        clicks: Clicks of visitors whom the model recommends to (see `known_visitors`).
        token: The API token, where the services want one.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    paths = [
        f"{url}/v1/recommendations/{quote(visitor, safe='')}?n={N}" for visitor in clicks.visitors
    ]
    items = _check_personalised(paths[:: max(1, len(paths) // 20)], headers)
    uncached = headers | {"Cache-Control": "no-cache"}
    requests = [request("GET", path, headers=uncached) for path in paths]
    rows = [_throughput(url, requests)]
    rate = load.rate or rows[0]["value"] / 2
    rows.append(_latency(url, requests, rate, "a given rate" if load.rate else "half of that load"))
    if load.times:
        rows += stage_times(url, requests)
        services = {name: peers[name] for name in SERVICES}
        rows += at_full_load(url, services, requests, CONNECTIONS)
    if load.swaps:
        rows += serving_swaps.run(
            url, peers["training"], requests, load.swaps, connections=CONNECTIONS, headers=headers
        )
    if load.rules:
        more = serving_rules.with_rules(url, peers["monitoring"], items, headers)
        ruled = [request("GET", f"{path}{more}", headers=uncached) for path in paths]
        rows.append(
            serving_rules.run(
                url, requests, ruled, connections=CONNECTIONS, rounds=ROUNDS, seconds=ROUND_S
            )
        )
    kept = [request("GET", path, headers=headers) for path in paths]
    rows.append(serving_clicks.run(url, clicks, kept, items, made=rows[0], connections=CONNECTIONS))
    return rows


def _throughput(url: str, requests: Sequence[bytes]) -> Measurement:
    """Measure requests/s in a closed loop, in turns with an empty route."""
    personal: list[Load] = []
    empty: list[Load] = []
    before = _answers_by_step(url)
    with running_empty_route() as empty_url:
        nothing = [request("GET", empty_url)]
        for _ in range(ROUNDS):
            for loads, where, sent in ((empty, empty_url, nothing), (personal, url, requests)):
                loads.append(
                    in_own_process(
                        closed_loop, where, sent, connections=CONNECTIONS, seconds=ROUND_S
                    )
                )
    for each in (*personal, *empty):
        each.succeeded()
    rate, ceiling = (statistics.median(load.rate for load in loads) for loads in (personal, empty))
    by_model = _share_by_model(before, _answers_by_step(url))
    middle = sorted(personal, key=lambda load: load.rate)[len(personal) // 2]
    return Measurement(
        name="personalised recommendations",
        value=rate * by_model,
        unit="requests/s",
        ceiling=ceiling,
        ratio=rate * by_model / ceiling,
        note=f"ceiling: an empty FastAPI route, same server settings; {CONNECTIONS}"
        f" connections, {VISITORS} visitors; {by_model:.2%} of the answers came from the"
        " model, and only those count",
        **middle.percentiles(),
    )


def _latency(url: str, requests: Sequence[bytes], rate: float, what: str) -> Measurement:
    """Measure latencies in an open loop at a rate."""
    before = _answers_by_step(url)
    paced = in_own_process(open_loop, url, requests, rate=rate, seconds=2 * ROUND_S).succeeded()
    by_model = _share_by_model(before, _answers_by_step(url))
    return Measurement(
        name=f"latency at {what}",
        value=paced.rate,
        unit="requests/s",
        note="open loop: latency counts from the moment the request was due;"
        f" {by_model:.2%} of the answers came from the model",
        **paced.percentiles(),
    )


def known_visitors(
    url: str, ingestion_url: str, write_key: str, items: Sequence[str] = (), *, token: str = ""
) -> list[str]:
    """Make visitors with a history, and return their ids once the model recommends to them.

    Args:
        ingestion_url: Ingestion, which gets the history.
        items: Item ids that the model knows; by default the trending ones.
        token: The API token, where serving wants one.

    Raises:
        BenchmarkError: No model answers within a minute.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as serving:
        known = list(items) or [
            item["item_id"]
            for item in serving.get("/v1/trending", params={"n": 100}).json()["items"]
        ]
        if not known:
            raise BenchmarkError(
                "nothing is trending: replay interactions first, to have items for the history"
            )
        stamp = int(time.time() * 1000)
        visitors = [f"bench-{stamp}-{number}" for number in range(VISITORS)]
        events = [
            {
                "type": "track", "event": "view", "userId": visitor,
                "messageId": f"{visitor}-{step}", "timestamp": stamp - (HISTORY - step) * 1000,
                "properties": {"item_id": known[(place * 31 + step * 7) % len(known)]},
            }
            for place, visitor in enumerate(visitors)
            for step in range(HISTORY)
        ]  # fmt: skip
        for begin in range(0, len(events), 500):
            body = orjson.dumps({"batch": events[begin : begin + 500], "writeKey": write_key})
            answer = httpx.post(
                f"{ingestion_url}/v1/batch",
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=30,
            )
            answer.raise_for_status()
            if answer.json()["accepted"] != len(events[begin : begin + 500]):
                raise BenchmarkError(f"ingestion did not accept all events: {answer.text[:300]}")
        _wait(
            lambda: all(
                _answered_by(serving, visitor) == "model" for visitor in (visitors[0], visitors[-1])
            )
        )
    return visitors


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not done():
        if time.monotonic() > deadline:
            raise BenchmarkError(
                "serving does not answer by the model:"
                " is there a champion, and does features keep up?"
            )
        time.sleep(0.1)


def _answered_by(serving: httpx.Client, visitor: str) -> str:
    return str(serving.get(f"/v1/recommendations/{quote(visitor, safe='')}").json()["answered_by"])


def _answers_by_step(url: str) -> dict[str, float]:
    """Read the number of answers of each step since serving started."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return {step: float(count) for step, count in _ANSWERS.findall(text)}


def _share_by_model(before: dict[str, float], after: dict[str, float]) -> float:
    given = {step: count - before.get(step, 0.0) for step, count in after.items()}
    return given.get("model", 0.0) / max(sum(given.values()), 1.0)


def _check_personalised(paths: Sequence[str], headers: dict[str, str]) -> list[str]:
    """Raise `BenchmarkError` unless the model gives whole lists that differ; return their items."""
    with httpx.Client(headers=headers, timeout=10) as client:
        answers = [client.get(path).json() for path in paths]
    other = [
        answer
        for answer in answers
        if answer.get("answered_by") != "model" or len(answer["items"]) != N
    ]
    if other:
        raise BenchmarkError(
            f"{len(other)} of {len(answers)} answers are not {N} items by the model, such as:"
            f" {str(other[0])[:300]}"
        )
    if (
        len(answers) > 1
        and len({tuple(item["item_id"] for item in answer["items"]) for answer in answers}) == 1
    ):
        raise BenchmarkError("all visitors get the same list: that is not personalised")
    return sorted({item["item_id"] for answer in answers for item in answer["items"]})
