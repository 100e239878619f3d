"""Swaps of the model during full load: failed requests, and latencies around a swap."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from bench.load import Load, closed_loop, in_own_process
from bench.measurements import BenchmarkError, Measurement, percentiles

# Time from one promotion to the next, and longest time that one may take.
EVERY_S: Final = 4.0
PATIENCE_S: Final = 30.0
# Serving keeps the previous model in memory. With three versions, each swap loads one from disk.
VERSIONS: Final = 3


class Swap(NamedTuple):
    """A swap: when it was requested, and when an answer came from the new model, in epoch s."""

    asked_at: float
    taken_at: float


def run(
    url: str,
    training_url: str,
    requests: Sequence[bytes],
    swaps: int,
    *,
    connections: int,
    headers: dict[str, str],
) -> list[Measurement]:
    """Promote registered versions in turn while as many requests are sent as serving takes.

    Args:
        training_url: Training, which has two versions or more.
        headers: Headers with the credential that may promote.

    Raises:
        BenchmarkError: Requests failed, or a promotion did not reach serving.
    """
    seconds = swaps * EVERY_S + 2
    with (
        httpx.Client(base_url=training_url, headers=headers, timeout=30) as training,
        httpx.Client(base_url=url, headers=headers, timeout=30) as serving,
        ThreadPoolExecutor(1) as background,
    ):
        present = str(_answer(serving.get("/v1/model"))["version"])
        listed = _answer(training.get("/v1/models", params={"limit": VERSIONS}))["items"]
        others = [str(model["version"]) for model in listed if model["version"] != present]
        if not others:
            raise BenchmarkError("only one model is registered: train another one to swap to")
        promoting = background.submit(_promote, training, serving, [*others, present], swaps)
        load = in_own_process(closed_loop, url, requests, connections=connections, seconds=seconds)
        done = promoting.result()
    if load.failed or len(done) < swaps:
        raise BenchmarkError(
            f"{load.failed} requests failed during {len(done)} of {swaps} swaps: {load.statuses}"
        )
    if done[-1].taken_at > max(load.answered_at, default=0.0):
        raise BenchmarkError("the load had ended before the last swap: swaps take too long here")
    return _rows(load, done)


def _promote(
    training: httpx.Client, serving: httpx.Client, versions: Sequence[str], swaps: int
) -> list[Swap]:
    """Promote these versions in turn, one every `EVERY_S` seconds."""
    done: list[Swap] = []
    time.sleep(EVERY_S / 2)
    for _, version in zip(range(swaps), cycle(versions), strict=False):
        asked_at = time.time()
        _answer(training.post(f"/v1/models/{quote(version, safe='')}:promote"))
        while _answer(serving.get("/v1/model"))["version"] != version:
            if time.time() - asked_at > PATIENCE_S:
                return done
            time.sleep(0.02)
        done.append(Swap(asked_at, time.time()))
        time.sleep(max(0.0, asked_at + EVERY_S - time.time()))
    return done


def _rows(load: Load, swaps: Sequence[Swap]) -> list[Measurement]:
    around: list[float] = []
    loading: list[float] = []
    apart: list[float] = []
    for at, latency in zip(load.answered_at, load.latencies_ms, strict=True):
        if any(abs(at - swap.taken_at) <= 0.5 for swap in swaps):
            around.append(latency)
        elif any(swap.asked_at <= at <= swap.taken_at for swap in swaps):
            loading.append(latency)
        else:
            apart.append(latency)
    took = [swap.taken_at - swap.asked_at for swap in swaps]
    return [
        _row(
            "full load, no swap near", apart, f"{load.rate:,.0f} requests/s, {load.failed} failed"
        ),
        _row(
            "full load, the second around a swap",
            around,
            f"{len(swaps)} swaps, each in service {min(took):.1f} to {max(took):.1f} s after the"
            f" request; p99 of the time before that: {percentiles(loading)['p99_ms']:.1f} ms",
        ),
    ]


def _row(name: str, latencies: Sequence[float], note: str) -> Measurement:
    return Measurement(
        name=name,
        value=float(len(latencies)),
        unit="requests",
        note=note,
        **percentiles(latencies),
    )


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.status_code >= 400:
        raise BenchmarkError(f"{response.url} answered {response.status_code}: {response.text}")
    body: dict[str, Any] = response.json()
    return body
