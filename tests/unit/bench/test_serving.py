import os
from pathlib import Path

import pytest

from bench import serving
from bench.load import Load

BEFORE = """
process_cpu_seconds_total 2.0
slipstream_recommendations_total{step="model"} 100.0
slipstream_recommendations_total{step="trending"} 5.0
slipstream_recommendation_stage_seconds_sum{stage="model"} 1.0
slipstream_recommendation_stage_seconds_sum{stage="similar"} 0.5
"""
AFTER = """
process_cpu_seconds_total 2.5
slipstream_recommendations_total{step="model"} 1100.0
slipstream_recommendations_total{step="trending"} 5.0
slipstream_recommendation_stage_seconds_sum{stage="model"} 1.2
slipstream_recommendation_stage_seconds_sum{stage="similar"} 0.5
slipstream_recommendation_stage_seconds_sum{stage="features"} 0.1
"""


def test_times_are_those_of_the_requests_between_two_looks_at_the_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = iter((BEFORE, AFTER))
    monkeypatch.setattr(
        serving.httpx, "get", lambda *_, **__: type("Answer", (), {"text": next(texts)})
    )
    load = Load(2.0, {200: 1_000}, [2.0] * 1_000)
    monkeypatch.setattr(serving, "in_own_process", lambda *_, **__: load)
    rows = {row["name"]: row["value"] for row in serving.stage_times("http://x", [b""])}
    assert rows == pytest.approx(
        {
            "one request at a time": 2_000,
            "of it, CPU of serving": 500,
            "of it, the stage model": 200,
            "of it, the stage features": 100,
        }
    )


def test_the_processors_time_is_that_of_the_services_of_others_and_of_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 50 1000 20 0 5 0 0 0\ncpu0 1 2 3\n")
    monkeypatch.setattr(serving, "_STAT", stat)
    texts = {"http://serving/metrics": BEFORE, "http://features/metrics": BEFORE}
    monkeypatch.setattr(
        serving.httpx, "get", lambda url, **_: type("Answer", (), {"text": texts[url]})
    )

    def load(*_: object, **__: object) -> Load:
        texts["http://serving/metrics"] = AFTER
        stat.write_text("cpu  180 0 90 1030 20 0 5 0 0 0\ncpu0 1 2 3\n")
        return Load(2.0, {200: 1_000}, [2.0] * 1_000)

    monkeypatch.setattr(serving, "in_own_process", load)
    services = {"serving": "http://serving", "features": "http://features"}
    rows = serving.at_full_load("http://serving", services, [b""], 16)
    assert {row["name"].partition(": ")[2]: row["value"] for row in rows} == pytest.approx(
        {
            "serving": 500,
            "features": 0,
            "broker, Redis, load generator and the system": 1e3 * (120 * tick - 0.5),
            "idle": 1e3 * 30 * tick,
        }
    )
