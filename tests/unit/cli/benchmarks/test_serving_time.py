import pytest

from slipstream_cli.benchmarks import serving_time
from slipstream_cli.benchmarks.load import Load

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
        serving_time.httpx, "get", lambda *_, **__: type("Answer", (), {"text": next(texts)})
    )
    load = Load(2.0, {200: 1_000}, [2.0] * 1_000)
    monkeypatch.setattr(serving_time, "in_own_process", lambda *_, **__: load)
    rows = {row["name"]: row["value"] for row in serving_time.run("http://x", [b""])}
    assert rows == pytest.approx(
        {
            "one request at a time": 2_000,
            "of it, CPU of serving": 500,
            "of it, the stage model": 200,
            "of it, the stage features": 100,
        }
    )
