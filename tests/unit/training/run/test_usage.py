"""What a process says of its own resources."""

import time
from typing import Any

import pytest

from services.training.run import usage
from services.training.run.usage import Meter
from slipstream.contracts.steps import StepUsage


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times in seconds: `now`, and that of the processors."""
    at = {"now": 1_000.0, "processor": 0.0}
    monkeypatch.setattr(usage, "now_ms", lambda: int(at["now"] * 1000))
    monkeypatch.setattr(usage, "_processor_s", lambda: at["processor"])
    monkeypatch.setattr(usage, "_age_s", lambda: 4.0)
    monkeypatch.setattr(usage, "gpu_names", list)
    return at


def spent(meter: Meter) -> dict[str, float]:
    usages = [StepUsage.model_validate(start) for start in meter.usage()]
    return {used.step: used.processor_s for used in usages}


def test_a_step_has_what_was_used_in_its_stages(clock: dict[str, float]) -> None:
    meter = Meter()
    clock["processor"] = 3.0  # importing
    meter.at("reading the lake")
    clock |= {"now": 1_010.0, "processor": 8.0}
    meter.at("judging")
    clock |= {"now": 1_012.0, "processor": 9.0}
    meter.at("fitting on everything")
    clock |= {"now": 1_020.0, "processor": 20.0}
    assert spent(meter) == {"test": 3.0, "snapshot": 5.0, "evaluate": 12.0}
    first, second, _ = meter.usage()
    assert first["start"] == second["start"] == first["began_at"] == 996_000
    assert (second["began_at"], second["ended_at"]) == (1_000_000, 1_010_000)


def test_a_gpu_that_torch_sees_is_the_device(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "gpu_names", lambda: ["H100", "H100"])
    (used,) = Meter().usage()
    assert used["device"] == "H100"


def test_earlier_starts_are_kept(clock: dict[str, float]) -> None:
    evicted: list[dict[str, Any]] = Meter().usage()
    clock |= {"now": 2_000.0, "processor": 1.0}
    assert Meter(evicted).usage()[:1] == evicted
    assert len(Meter(evicted).usage()) == 2


def test_a_stage_of_no_step_belongs_to_the_one_before(clock: dict[str, float]) -> None:
    meter = Meter()
    meter.at("judging")
    meter.at("a stage of a newer program")
    assert [each["step"] for each in meter.usage()] == ["test", "evaluate"]


def test_this_process_has_an_age_and_a_time() -> None:
    before = usage._processor_s()
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert usage._processor_s() >= before + 0.04
    assert usage._age_s() > 0.05
