"""Comparison of a new release's pods with those of the present one, by their own metrics.

Counts are what each pod's counters grew by between readings; a pod that restarted counts from zero
again.
"""

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from slipstream.chassis.metrics import LATENCY_BUCKETS

_SECONDS, _ANSWERS = "slipstream_http_request_seconds", "slipstream_recommendations"
# Routes that probes and Prometheus call, and clients don't.
_OWN_ROUTES = ("/health", "/metrics", "/v2/health")
# Time between two readings: what a pod counts after its last one is lost.
EVERY_S = 5.0
# Longest wait for each side to have a pod.
PATIENCE_S = 30.0

# One pod's counters, by their names here: `requests`, `errors`, `answers`, `fallbacks`, and of each
# upper bound in seconds the requests that took no longer.
Counts = Counter[str | float]
# What is known of a side's pods at one time, by their addresses.
Reading = Mapping[str, Counts]


class NoPodError(RuntimeError):
    """A side has no pod that tells its metrics."""


@dataclass(frozen=True)
class Bounds:
    """How much worse than the stable release a canary may be.

    Attributes:
        requests: Fewest requests of each side.
        errors: Greatest difference of the share of answers with a status of 5xx.
        fallbacks: Greatest difference of the share of lists that the model did not make.
        p95_ms: Greatest difference of the 95th percentile of the time to answer.
    """

    requests: int
    errors: float
    fallbacks: float
    p95_ms: float


@dataclass(frozen=True)
class Side:
    """The answers of one release's pods over a time; `p95_ms` is 0 without any."""

    pods: int
    requests: int
    errors: float
    fallbacks: float
    p95_ms: float


def read_pods(url: str, client: httpx.Client) -> dict[str, Counts]:
    """Read the counters of each pod behind a headless Service.

    Args:
        url: Address of the Service; each address of its name is a pod.
        client: Client that asks them.

    Returns:
        Counts by address. Pods that do not answer are left out.
    """
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return {}
    counts = {}
    for address in sorted({str(entry[4][0]) for entry in found}):
        host = f"[{address}]" if ":" in address else address
        try:
            answer = client.get(f"{parts.scheme}://{host}:{parts.port}/metrics")
            counts[address] = parse(answer.raise_for_status().text)
        except (httpx.HTTPError, ValueError):
            continue
    return counts


def parse(text: str) -> Counts:
    """Take the counts from a pod's metrics, in Prometheus' text format.

    Raises:
        ValueError: The text is not in that format, or has no times of requests.
    """
    counts: Counts = Counter()
    known = False
    for family in text_string_to_metric_families(text):
        known = known or family.name == _SECONDS
        for sample in family.samples:
            value = int(sample.value)
            if sample.name == f"{_ANSWERS}_total":
                counts["answers"] += value
                counts["fallbacks"] += value if sample.labels["step"] != "model" else 0
            elif not sample.name.startswith(_SECONDS) or sample.labels["route"].startswith(
                _OWN_ROUTES
            ):
                continue
            elif sample.name == f"{_SECONDS}_count":
                counts["requests"] += value
                counts["errors"] += value if re.match("5..", sample.labels["status"]) else 0
            elif sample.name == f"{_SECONDS}_bucket":
                counts[float(sample.labels["le"])] += value
    if not known:
        raise ValueError(f"no metric {_SECONDS}")
    return counts


def growth(readings: Sequence[Reading]) -> Side:
    """Sum what the counters of all pods grew by, each since the first reading that has it."""
    total: Counts = Counter()
    known: dict[str, Counts] = {}
    for reading in readings:
        for pod, counts in reading.items():
            old = known.get(pod, counts)
            restarted = counts["requests"] < old["requests"]
            total.update(counts if restarted else counts - old)
        known |= reading
    requests, answers = total["requests"], total["answers"]
    return Side(
        len(known),
        requests,
        total["errors"] / requests if requests else 0.0,
        total["fallbacks"] / answers if answers else 0.0,
        1_000 * _percentile(total, 0.95),
    )


def _percentile(counts: Counts, share: float) -> float:
    """A percentile in seconds, even within a bucket, as Prometheus' histogram_quantile has it."""
    rank = share * counts["requests"]
    lower, below = 0.0, 0
    for upper in LATENCY_BUCKETS:
        within = counts[upper]
        if rank and within >= rank:
            return lower + (upper - lower) * (rank - below) / (within - below)
        lower, below = upper, within
    return lower if rank else 0.0


def faults(stable: Side, canary: Side, bounds: Bounds) -> list[str]:
    """The reasons to return a canary; empty for one that may go on."""
    few = [
        f"{name} answered {side.requests:,} requests, fewer than {bounds.requests:,}"
        for name, side in (("stable", stable), ("canary", canary))
        if side.requests < bounds.requests
    ]
    if few:
        return few
    found = []
    for name, own, other, most in (
        ("errors", canary.errors, stable.errors, bounds.errors),
        ("fallbacks", canary.fallbacks, stable.fallbacks, bounds.fallbacks),
    ):
        if own - other > most:
            found.append(
                f"{name} are {own:.1%}, more than {most:.1%} above the {other:.1%} of stable"
            )
    if canary.p95_ms - stable.p95_ms > bounds.p95_ms:
        found.append(
            f"p95 is {canary.p95_ms:.0f} ms, more than {bounds.p95_ms:.0f} ms above the"
            f" {stable.p95_ms:.0f} ms of stable"
        )
    return found


def watch(
    stable: Callable[[], Reading],
    canary: Callable[[], Reading],
    seconds: float,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Side, Side]:
    """Read both sides again and again for a time.

    Args:
        stable: Reads the pods of the present release.
        canary: Reads those of the new one.
        seconds: Time from the first reading to the last.
        pause: Waits so many seconds.

    Returns:
        The answers of both sides in that time.

    Raises:
        NoPodError: A side has no pod after `PATIENCE_S`.
    """
    waited = 0.0
    while not ((first := stable()) and (other := canary())):
        if waited >= PATIENCE_S:
            side = "canary" if first else "stable"
            raise NoPodError(f"no pod of {side} tells its metrics after {PATIENCE_S:.0f} s")
        pause(1.0)
        waited += 1.0
    readings, others = [first], [other]
    left = seconds
    while left > 0:
        pause(min(EVERY_S, left))
        left -= EVERY_S
        readings.append(stable())
        others.append(canary())
    return growth(readings), growth(others)
