import socket

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from slipstream.chassis import metrics
from slipstream.chassis.metrics import added_up
from tests.unit.chassis.test_app import an_app


def a_process(requests: int, latency_s: float, version: str, lag: float) -> str:
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests, by step", ["step"], registry=registry)
    counter.labels('mo"del').inc(requests)
    if requests > 5:
        counter.labels("trending").inc()
    histogram = Histogram("seconds", "Time", buckets=(0.1, 1.0), registry=registry)
    histogram.observe(latency_s)
    Gauge("model", "1", ["version"], registry=registry).labels(version).set(1)
    Gauge("lag", "Records", registry=registry).set(lag)
    Gauge("process_resident_memory_bytes", "Memory", registry=registry).set(1000)
    return generate_latest(registry).decode()


def test_counters_and_histograms_add_up_and_gauges_take_the_greatest() -> None:
    text = added_up([a_process(3, 0.05, "a", 2), a_process(7, 0.5, "b", -1), ""])
    lines = text.splitlines()
    assert 'requests_total{step="mo\\"del"} 10.0' in lines
    assert 'requests_total{step="trending"} 1.0' in lines
    assert 'seconds_bucket{le="0.1"} 1.0' in lines and 'seconds_bucket{le="+Inf"} 2.0' in lines
    assert "seconds_count 2.0" in lines and "seconds_sum 0.55" in lines
    assert 'model{version="a"} 1.0' in lines and 'model{version="b"} 1.0' in lines
    assert "lag 2.0" in lines
    assert "process_resident_memory_bytes 2000.0" in lines
    assert sum(line == "# TYPE seconds histogram" for line in lines) == 1


@pytest.mark.parametrize("value", [0.0, 1.5e-07, 12345678901.0, float("inf"), float("nan")])
def test_one_process_keeps_its_text(value: float) -> None:
    registry = CollectorRegistry()
    Gauge("temperature", "How warm it is", registry=registry).set(value)
    text = generate_latest(registry).decode()
    *heads, sample = added_up([text]).splitlines()
    *given_heads, given = text.splitlines()
    assert heads == given_heads
    assert sample.split()[0] == given.split()[0]
    assert float(sample.split()[1]) == pytest.approx(float(given.split()[1]), nan_ok=True)


def test_metrics_without_those_of_a_process_that_does_not_answer_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "_LIMIT_S", 0.05)
    app = an_app()
    with socket.create_server(("127.0.0.1", 0)) as stalled, TestClient(app) as client:
        app.state.siblings = (f"http://127.0.0.1:{stalled.getsockname()[1]}",)
        answer = client.get("/metrics")
        assert (answer.status_code, answer.json()["code"]) == (503, "metrics_incomplete")
        assert client.get("/metrics?process=own").status_code == 200
