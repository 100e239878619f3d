"""Prometheus metrics. Each app has a registry, so that several apps can live in one process."""

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
from slipstream.chassis.added_metrics import read_all
from slipstream.chassis.request_names import taking_any_name

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The metrics that every service has. Further ones are registered in `registry`."""

    def __init__(self, service: str) -> None:
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
        return Response(await read_all(siblings), media_type=CONTENT_TYPE_LATEST)
    return Response(
        generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST
    )
