"""Which requests are traced, and what becomes of spans that a collector does not take."""

import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from slipstream.chassis import tracing as module
from slipstream.chassis.access.guard import open_to_all
from slipstream.chassis.app import create_service
from slipstream.chassis.logging import TracedId, request_id
from slipstream.chassis.metrics import Metrics
from slipstream.chassis.settings import ServiceSettings, TracingSettings
from tests.spans import NOWHERE, RecordedTraces, parent_of, place_of, traces_of
from tests.waiting import until

SCOPE = {"type": "http", "method": "GET", "path": "/v1/x"}
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = f"00-{TRACE_ID}-{SPAN_ID}-01"


def an_app(**own: Any) -> FastAPI:
    router = APIRouter()

    @router.get("/echo/{word}")
    @open_to_all
    async def echo(word: str) -> str:
        if word == "broken":
            raise ZeroDivisionError
        return getattr(request_id.get(), "traceparent", "")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    settings = ServiceSettings(tracing=TracingSettings(**own))
    return create_service("probe", settings, description="", lifespan=lifespan, routers=[router])


@pytest.fixture(scope="module")
def continuing() -> RecordedTraces:
    return traces_of(Metrics("probe"), share=0, most_per_s=1_000_000)


hexadecimal = st.text("0123456789abcdef", min_size=1)


@given(
    st.binary(max_size=80)
    | st.builds("{}-{}-{}-{}".format, *[hexadecimal] * 4).map(str.encode)
    | st.builds(
        "00-{:032x}-{:016x}-{:02x}".format,
        st.integers(0, 2**128 - 1),
        st.integers(0, 2**64 - 1),
        st.integers(0, 3),
    ).map(str.encode)
)
def test_a_request_is_traced_where_its_header_is_sound_and_says_so(
    continuing: RecordedTraces, header: bytes
) -> None:
    sound = re.fullmatch(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", header)
    traced = (
        sound is not None
        and int(sound[1], 16) > 0
        and int(sound[2], 16) > 0
        and int(sound[3], 16) % 2 == 1
    )
    rid = continuing.tracing.begin("r-1", header, SCOPE)
    assert (rid, type(rid) is TracedId) == ("r-1", traced)
    if isinstance(rid, TracedId):
        assert rid.traceparent[:36] == header.decode()[:36]
        assert rid.traceparent[36:52] != header.decode()[36:52]


def test_of_requests_without_a_readable_header_a_share_is_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracing = traces_of(Metrics("probe"), share=0.25).tracing
    for number, traced in ((0.0, True), (0.2499, True), (0.25, False), (0.99, False)):
        monkeypatch.setattr(module, "random", lambda number=number: number)
        for header in (None, b"garbage"):
            assert (type(tracing.begin("r", header, SCOPE)) is TracedId) == traced
        assert type(tracing.begin("r", TRACED.encode(), SCOPE)) is TracedId
        assert tracing.begin("r", TRACED.encode()[:-1] + b"0", SCOPE).__class__ is str


def test_clients_can_have_only_so_many_requests_traced_in_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 7.1
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    tracing = traces_of(Metrics("probe"), most_per_s=2).tracing

    def traced() -> list[bool]:
        ids = [tracing.begin("r", TRACED.encode(), SCOPE) for _ in range(3)]
        return [type(rid) is TracedId for rid in ids]

    assert traced() == [True, True, False]
    now = 8.0
    assert traced() == [True, True, False]


def test_looks_at_health_and_metrics_are_not_traced() -> None:
    tracing = traces_of(Metrics("probe"), share=1).tracing
    assert type(tracing.begin("r", None, SCOPE | {"path": "/health/ready"})) is str


def test_span_of_a_request_has_route_and_status_and_fails_with_the_answer() -> None:
    app = an_app(otlp_url=NOWHERE, share=0)
    traces = RecordedTraces(app.state.metrics.tracing)
    client = TestClient(app, raise_server_exceptions=False)
    headers = {"traceparent": TRACED, "X-Request-Id": "r-1"}
    inside = client.get("/echo/ada", headers=headers).json()
    assert client.get("/echo/broken", headers=headers).status_code == 500
    assert client.get("/echo/ada").json() == ""
    good, bad = traces.spans
    assert place_of(good) == inside
    assert parent_of(good) == parent_of(bad) == SPAN_ID
    assert (good.name, good.status.status_code) == ("GET /echo/{word}", StatusCode.UNSET)
    assert dict(good.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/echo/{word}",
        "http.response.status_code": 200,
        "slipstream.request_id": "r-1",
    }
    assert bad.status.status_code is StatusCode.ERROR


def test_a_part_lies_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "perf_counter", lambda: 100.0)
    monkeypatch.setattr(module.time, "time_ns", lambda: 5_000_000_000)
    traces = traces_of(Metrics("probe"))
    rid = traces.request()
    assert rid.recorded is not None
    rid.recorded.part("model", 99.5, 0.25)
    part = traces.named("model")
    assert (part.start_time, part.end_time) == (4_500_000_000, 4_750_000_000)
    assert parent_of(part) == rid.traceparent[36:52]


def test_a_request_for_many_visitors_has_a_bounded_number_of_parts() -> None:
    traces = traces_of(Metrics("probe"))
    rid = traces.request()
    assert rid.recorded is not None
    for _ in range(module.MOST_PARTS + 5):
        rid.recorded.part("model", 0.0, 0.1)
    assert len(traces.spans) == module.MOST_PARTS


class Collector(SpanExporter):
    """A collector that refuses, and takes its time where the test says so."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.result, self.may_answer = SpanExportResult.FAILURE, threading.Event()
        self.may_answer.set()
        self.asked = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        self.may_answer.wait(60)
        return self.result


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    collector = Collector()
    monkeypatch.setattr(module, "OTLPSpanExporter", lambda *_, **__: collector)
    monkeypatch.setattr(module, "_DELAY_MS", 5)
    return collector


def spans_counted(app: FastAPI, outcome: str) -> float:
    value = app.state.metrics.registry.get_sample_value(
        "slipstream_trace_spans_total", {"outcome": outcome}
    )
    assert value is not None
    return value


def test_while_the_collector_is_unavailable_requests_are_answered_and_lost_spans_counted(
    collector: Collector,
) -> None:
    app = an_app(otlp_url=NOWHERE, share=1)
    with structlog.testing.capture_logs() as lines, TestClient(app) as client:
        for number in range(3):
            assert client.get("/echo/ada").status_code == 200
            until(lambda number=number: spans_counted(app, "failed") == number + 1)
        collector.result = SpanExportResult.SUCCESS
        assert client.get("/echo/ada").status_code == 200
        until(lambda: spans_counted(app, "exported") == 1)
    assert [line["url"] for line in lines if "collector" in line["event"]] == [
        f"{NOWHERE}/v1/traces"
    ]


def test_spans_without_room_in_the_queue_are_dropped_and_counted(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 8)
    collector.result = SpanExportResult.SUCCESS
    app = an_app(otlp_url=NOWHERE, share=1)
    with TestClient(app) as client:
        collector.may_answer.clear()
        for _ in range(11):
            assert client.get("/echo/ada").status_code == 200
        assert spans_counted(app, "dropped") == 3
        assert collector.asked.wait(60)
        collector.may_answer.set()
    assert spans_counted(app, "exported") == 8


def test_a_service_with_a_closed_port_as_collector_starts_answers_and_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.1)
    app = an_app(otlp_url=NOWHERE, share=1)
    with TestClient(app) as client:
        assert client.get("/echo/ada").status_code == 200
    assert spans_counted(app, "failed") == 1


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    """FastAPI imports OpenTelemetry's API, and redis-py the SDK's metrics where they are there."""
    program = """
import sys
from services.ingestion.app import create_app
from services.ingestion.settings import IngestionSection, IngestionSettings
app = create_app(IngestionSettings(ingestion=IngestionSection(write_keys="shop:secret")))
assert app.state.metrics.tracing is None
print(*(name for name in sys.modules if name.startswith(UNWANTED)))
"""
    unwanted = (
        "slipstream.chassis.tracing", "opentelemetry.sdk.trace", "opentelemetry.exporter",
        "opentelemetry.proto", "google.protobuf", "requests",
    )  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", f"UNWANTED = {unwanted}{program}"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (ran.stdout.strip(), ran.returncode) == ("", 0), ran.stderr
