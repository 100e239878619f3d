"""Spans that stay in memory, for tests of what records them."""

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from slipstream.chassis.logging import TracedId
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings, TracingSettings
from slipstream.chassis.tracing import Tracing

# An address where no collector listens: the port of `discard`.
NOWHERE = "http://127.0.0.1:9"


class RecordedTraces:
    """The spans of a service's tracing, as they end."""

    def __init__(self, tracing: Tracing) -> None:
        self.tracing, self._exporter = tracing, InMemorySpanExporter()
        tracing._provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def request(self, rid: str = "r-1") -> TracedId:
        """The id of a request that is traced for its header."""
        header = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        traced = self.tracing.begin(rid, header, {"method": "GET", "path": "/v1/x"})
        assert isinstance(traced, TracedId)
        return traced


def traces_of(metrics: Metrics, **own: Any) -> RecordedTraces:
    """The spans of a service with these metrics, which now traces by these settings."""
    settings = ServiceSettings(tracing=TracingSettings(otlp_url=NOWHERE, **own))
    metrics.tracing = Tracing(settings, "probe", metrics.registry)
    return RecordedTraces(metrics.tracing)


def place_of(span: ReadableSpan) -> str:
    """The span as a `traceparent`."""
    context = span.get_span_context()
    assert context is not None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def parent_of(span: ReadableSpan) -> str:
    """The parent's id in hexadecimal; "" for none."""
    return f"{span.parent.span_id:016x}" if span.parent is not None else ""
