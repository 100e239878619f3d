"""Prometheus metrics. Each app has a registry, so that several apps can live in one process.

Those of a service's processes are shown as one: what counts is added up. A process that is killed
takes its counts along, and its successor counts from 0. Prometheus takes the smaller sum for a new
start, and so counts once more what the other processes had counted.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import httpx
from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client import PROCESS_COLLECTOR as _PROCESS
from prometheus_client.process_collector import ProcessCollector

from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.errors import UnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.chassis.request_names import taking_any_name

if TYPE_CHECKING:
    from slipstream.chassis.tracing import Tracing

log = get_logger(__name__)

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# Longest wait for a process's metrics.
_LIMIT_S: Final = 2.0
# Gauges that are added up, too. Of others, the greatest counts.
_ADDED_GAUGES: Final = frozenset(
    {"process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"}
)


class Metrics:
    """The metrics that every service has. Further ones are registered in `registry`.

    `tracing` records the spans of traced requests; None where the service records none.
    """

    def __init__(self, service: str) -> None:
        self.tracing: Tracing | None = None
        self.registry = CollectorRegistry(auto_describe=True)
        if _PROCESS is not None:
            ProcessCollector(registry=self.registry)
        info = Gauge(
            "slipstream_service_info",
            "1, with the service's name",
            ["service"],
            registry=self.registry,
        )
        info.labels(service).set(1)
        self.http_seconds = Histogram(
            "slipstream_http_request_seconds",
            "Time to answer, by route",
            ["route", "method", "status"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.http_refusals = Counter(
            "slipstream_http_refusals_total",
            "Connections that were closed since their client sent too much or too slowly, by code",
            ["code"],
            registry=self.registry,
        )
        self.consumed = Counter(
            "slipstream_consumed_records_total",
            "Records handled, by topic",
            ["topic"],
            registry=self.registry,
        )
        self.malformed = Counter(
            "slipstream_malformed_records_total",
            "Records that could not be decoded",
            ["topic"],
            registry=self.registry,
        )
        self.consumer_lag = Gauge(
            "slipstream_consumer_lag_records",
            "Records not yet handled, by topic",
            ["topic"],
            registry=self.registry,
        )
        self.consumer_stalls = Counter(
            "slipstream_consumer_stalls_total",
            "Consumers replaced after they stopped reading, by symptom",
            ["symptom"],
            registry=self.registry,
        )
        self.unread_deleted = Counter(
            "slipstream_unread_records_deleted_total",
            "Records that retention deleted before this service read them, by topic",
            ["topic"],
            registry=self.registry,
        )
        self.log_truncations = Counter(
            "slipstream_log_truncations_total",
            "Partitions that ended before what this service had read of them, by topic",
            ["topic"],
            registry=self.registry,
        )
        self.worker_restarts = Counter(
            "slipstream_worker_restarts_total",
            "Restarts after a failure, by worker",
            ["worker"],
            registry=self.registry,
        )


router = APIRouter(
    tags=["health"], route_class=taking_any_name("scrapers add parameters of their own")
)


@router.get("/metrics", include_in_schema=False)
@open_to_all
async def metrics(request: Request) -> Response:
    """The registry in Prometheus' text format, of all processes where several serve."""
    siblings = request.app.state.siblings
    if siblings and request.query_params.get("process") != "own":
        return Response(await _read_all(siblings), media_type=CONTENT_TYPE_LATEST)
    # In a thread, since a registry with all statuses of all routes takes tens of milliseconds.
    text = await asyncio.to_thread(generate_latest, request.app.state.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _read_all(siblings: Sequence[str]) -> str:
    """The metrics of all processes, in Prometheus' text format.

    Raises:
        UnavailableError: A process does not answer. Sums without it would be smaller than those
            before, which Prometheus takes for a new start, and adds once more.
    """

    async def read(client: httpx.AsyncClient, url: str) -> str:
        try:
            return (await client.get(f"{url}/metrics?process=own")).raise_for_status().text
        except httpx.HTTPError as error:
            log.warning("a process of the service tells no metrics", url=url, reason=str(error))
            raise UnavailableError(
                "A process of this service tells no metrics; ask again", code="metrics_incomplete"
            ) from error

    # Plain HTTP on this machine: `verify` would load certificates at each look.
    async with httpx.AsyncClient(timeout=_LIMIT_S, trust_env=False, verify=False) as client:  # noqa: S501
        return added_up(await asyncio.gather(*(read(client, url) for url in siblings)))


def added_up(texts: Iterable[str]) -> str:
    """Add up several texts in Prometheus' format, in the order in which samples first come.

    Counters and histograms are added; of gauges the greatest value counts, save for the memory and
    the files of a process.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, dict[str, float]] = {}
    for text in texts:
        family, is_gauge = "", False
        for line in text.splitlines():
            if line.startswith("# "):
                _, word, family, *_ = line.split(" ", 3)
                is_gauge = line.endswith(" gauge") and family not in _ADDED_GAUGES
                if family not in heads or word not in {
                    head.split(" ")[1] for head in heads[family]
                }:
                    heads.setdefault(family, []).append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                known = samples.setdefault(family, {})
                if is_gauge:
                    known[name] = max(known.get(name, float(value)), float(value))
                else:
                    known[name] = known.get(name, 0.0) + float(value)
    lines = [
        line
        for family, head in heads.items()
        for line in (
            *head,
            *(f"{name} {_text(value)}" for name, value in samples.get(family, {}).items()),
        )
    ]
    return "\n".join([*lines, ""])


def _text(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text := repr(value), text)
