"""Where a run computes, on machines with a GPU and without."""

import os
from typing import Literal

import pytest
from structlog.testing import capture_logs

from services.training.run.device import DeviceError, choose_device


@pytest.mark.parametrize(
    ("asked", "there", "warns"), [("auto", False, 1), ("auto", True, 0), ("gpu", True, 0)]
)
def test_device_that_is_left_to_the_machine_is_the_cpu_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, asked: Literal["auto", "gpu"], there: bool, warns: int
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    with capture_logs() as lines:
        choose_device(asked)
    assert [line["event"] for line in lines] == ["the run computes on the CPU"] * warns


def test_cpu_that_is_asked_for_hides_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    choose_device("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_gpu_that_torch_can_not_see_is_refused_with_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"DEVICE=gpu, and torch .*: it needs"):
        choose_device("gpu")


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("services.training.run.device.gpu_names", lambda: ["H100"])
    choose_device("gpu")
    with pytest.raises(DeviceError, match="PROCESSES=2, and torch sees 1 GPUs"):
        choose_device("gpu", 2)
