from typing import Any

import pytest

from services.training.run import job
from services.training.run.job import ProgressReporter
from slipstream.contracts.progress import ProgressStep


@pytest.fixture
def messages() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [100.0]
    monkeypatch.setattr(job.time, "perf_counter", lambda: at[0])
    return at


def test_steps_go_from_the_begin_of_their_stage_to_its_end(
    messages: list[dict[str, Any]], clock: list[float]
) -> None:
    report = ProgressReporter(messages.append)
    report.stage("reading", 0.0, 0.2)
    report.fact(lake_version=3)
    report.stage("fitting", 0.2, 0.6)
    report.step(ProgressStep("the transformer", 0.5, epoch=2, epochs=4, loss=1.5))
    report.step(ProgressStep("the blend", 3, None))
    report.step(ProgressStep("fitting", 1, 4))
    assert messages == [
        {"stage": "reading", "progress": 0.0},
        {"stage": "reading", "progress": 0.0, "lake_version": 3},
        {"stage": "fitting", "progress": 0.2},
        {
            "stage": "fitting",
            "progress": 0.4,
            "detail": "the transformer",
            "epoch": 2,
            "epochs": 4,
            "loss": 1.5,
        },
        {
            "stage": "fitting",
            "progress": 0.4,
            "detail": "the blend",
            "epoch": None,
            "epochs": None,
            "loss": None,
        },
        {
            "stage": "fitting",
            "progress": 0.4,
            "detail": "",
            "epoch": None,
            "epochs": None,
            "loss": None,
        },
    ]


def test_steps_that_differ_in_numbers_only_are_told_four_times_a_second(
    messages: list[dict[str, Any]], clock: list[float]
) -> None:
    report = ProgressReporter(messages.append)
    report.stage("fitting", 0.0, 1.0)
    for step in range(1000):
        clock[0] += 0.001
        report.step(ProgressStep("rules", step, 1000))
    assert len(messages) == 1 + 1 + 3
    report.step(ProgressStep("the blend", 1.0))
    assert messages[-1]["detail"] == "the blend"


def test_seconds_of_each_stage_are_kept(messages: list[dict[str, Any]], clock: list[float]) -> None:
    report = ProgressReporter(messages.append)
    for stage, seconds in (("reading", 2.0), ("fitting", 5.0)):
        report.stage(stage, 0.0, 0.5)
        clock[0] += seconds
    report.finish()
    assert report.seconds == {"reading": 2.0, "fitting": 5.0}
