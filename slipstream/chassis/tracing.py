"""Tracing of a service: spans of requests and of the work on their records, for an OTLP collector.

It is imported only where a collector is named. Whether a request is traced is decided before
anything is made for it, so that the others cost one random number each. A request that says by
W3C's `traceparent` whether it is traced decides for all that follows
(https://www.w3.org/TR/trace-context/).

Spans wait in a queue and leave in a thread of their own. Those that find no room, or that the
collector does not take, are counted and dropped: no request waits for them or fails.
"""

import os
import socket
import threading
import time
from collections.abc import Sequence
from random import random
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter
from starlette.types import Scope

from slipstream.chassis.logging import TracedId, get_logger
from slipstream.chassis.opening import OBSERVED
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.positions import Source

log = get_logger(__name__)

# Spans that wait for the collector, at most; a span takes about 2 KB.
QUEUE: Final = 2_048
# Spans leave when this time has passed, or when a quarter of the queue is full.
_DELAY_MS: Final = 2_000
# Longest time for one request to the collector, with its repeats; a stop may wait for one.
_TIMEOUT_S: Final = 5.0
# An unavailable collector is logged again after this time.
_REMIND_EVERY_S: Final = 60.0
# Parts of one request that are recorded: a request for many visitors has some for each.
MOST_PARTS: Final = 64
_HEADER: Final = TraceContextTextMapPropagator()
# The end of a `traceparent` of a request that is not traced.
_NOT_TRACED: Final = b"-00"


class RecordedSpan:
    """A span of this service, as the code that it measures sees it."""

    __slots__ = ("_ahead_ns", "_parts", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span, self._parts = tracer, span, 0
        # By how much the clock of times is ahead of that of durations.
        self._ahead_ns = time.time_ns() - int(time.perf_counter() * 1e9)

    @property
    def traceparent(self) -> str:
        carrier: dict[str, str] = {}
        _HEADER.inject(carrier, set_span_in_context(self._span))
        return carrier.get("traceparent", "")

    def part(self, name: str, began: float, seconds: float, *, failed: bool = False) -> None:
        """Record a part of the work as a child span, one of the first `MOST_PARTS`. It began at
        `began` by `time.perf_counter`.
        """
        self._parts += 1
        if self._parts > MOST_PARTS:
            return
        began_ns = int(began * 1e9) + self._ahead_ns
        parent = set_span_in_context(self._span)
        child = self._tracer.start_span(name, parent, start_time=began_ns)
        if failed:
            child.set_status(StatusCode.ERROR)
        child.end(began_ns + int(seconds * 1e9))

    def note(self, name: str, value: str) -> None:
        """Set an attribute of the span."""
        self._span.set_attribute(name, value)

    def answered(self, method: str, route: str, status: int) -> None:
        """End the span of a request that was answered."""
        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def end(self, failure: BaseException | None) -> None:
        """End the span of other work, which may have failed."""
        if failure is not None:
            # The text of an error may hold what a client has sent.
            self._span.set_attribute("error.type", type(failure).__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class Tracing:
    """The beginning of traces in one process of a service, and the export of its spans."""

    def __init__(
        self, settings: ServiceSettings, service: str, registry: CollectorRegistry
    ) -> None:
        own = settings.tracing
        self._share, self._most_per_s = own.share, own.most_per_s
        self._second, self._begun_in_it = 0, 0
        spans = Counter(
            "slipstream_trace_spans_total",
            "Spans that were exported, that the collector did not take (failed), or that found no "
            "room in the queue (dropped)",
            ["outcome"],
            registry=registry,
        )
        self._exporter = _CountingExporter(f"{own.otlp_url.rstrip('/')}/v1/traces", spans)
        resource = Resource.create(
            {
                "service.name": service,
                "service.namespace": settings.namespace,
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
            }
        )
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("slipstream")

    def open(self) -> None:
        """Start the thread that exports spans."""
        self._provider.add_span_processor(_CountingProcessor(self._exporter))

    def close(self) -> None:
        """Export what waits, and end the thread. An unavailable collector is not waited for."""
        if self._exporter.failing:
            self._exporter.shutdown()
        self._provider.shutdown()

    def begin(self, rid: str, traceparent: bytes | None, scope: Scope) -> str:
        """The id of a request that begins: a `TracedId` where it is traced."""
        if traceparent is None:
            if random() >= self._share:
                return rid
        elif traceparent.endswith(_NOT_TRACED):
            return rid
        return self._sampled(rid, traceparent, scope)

    def _sampled(self, rid: str, traceparent: bytes | None, scope: Scope) -> str:
        parent = Context()
        if traceparent is not None:
            parent = _HEADER.extract({"traceparent": traceparent.decode("latin-1")}, parent)
            place = get_current_span(parent).get_span_context()
            # A header that can't be read is none.
            if not (place.trace_flags.sampled if place.is_valid else random() < self._share):
                return rid
        if scope["path"] in OBSERVED or not self._within_rate():
            return rid
        span = RecordedSpan(
            self._tracer,
            self._tracer.start_span(
                scope["method"],
                parent,
                SpanKind.SERVER,
                {"http.request.method": scope["method"], "slipstream.request_id": rid},
            ),
        )
        return TracedId(rid, span.traceparent, span)

    def consume(self, rid: TracedId, source: Source, offset: int, records: int) -> RecordedSpan:
        """Begin a span of the work on a traced request's records; what follows is its child. The id
        has the span that sent the records, and from now on this one. The first record stands at
        `offset` of `source`.
        """
        span = RecordedSpan(
            self._tracer,
            self._tracer.start_span(
                f"process {source.topic}",
                _HEADER.extract({"traceparent": rid.traceparent}, Context()),
                SpanKind.CONSUMER,
                {
                    "messaging.system": "kafka",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": source.topic,
                    "messaging.destination.partition.id": str(source.partition),
                    "messaging.kafka.offset": offset,
                    "messaging.batch.message_count": records,
                    "slipstream.request_id": str(rid),
                },
            ),
        )
        rid.traceparent, rid.recorded = span.traceparent, span
        return span

    def _within_rate(self) -> bool:
        """Whether one more trace may begin in this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._begun_in_it = second, 0
        self._begun_in_it += 1
        return self._begun_in_it <= self._most_per_s


class _CountingProcessor(BatchSpanProcessor):
    """A queue of spans and the thread that exports them, which counts spans that find no room."""

    def __init__(self, exporter: "_CountingExporter") -> None:
        super().__init__(exporter, QUEUE, _DELAY_MS, QUEUE // 4)
        self._exporter = exporter

    def on_end(self, span: ReadableSpan) -> None:
        if self._exporter.room.acquire(blocking=False):
            super().on_end(span)
        else:
            self._exporter.dropped.inc()


class _CountingExporter(SpanExporter):
    """Exports spans by OTLP over HTTP, counts them, and logs an outage of the collector once a
    minute. `failing` says whether the last export failed.
    """

    def __init__(self, url: str, spans: Counter) -> None:
        self._url = url
        self._exporter = OTLPSpanExporter(url, timeout=_TIMEOUT_S)
        self._exported, self._failed = spans.labels("exported"), spans.labels("failed")
        self.dropped = spans.labels("dropped")
        self.room = threading.Semaphore(QUEUE)
        self.failing = False
        self._logged_at = float("-inf")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        self.room.release(len(spans))
        self.failing = result is not SpanExportResult.SUCCESS
        (self._failed if self.failing else self._exported).inc(len(spans))
        if self.failing and time.monotonic() - self._logged_at >= _REMIND_EVERY_S:
            self._logged_at = time.monotonic()
            log.warning("the trace collector takes no spans; they are dropped", url=self._url)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
