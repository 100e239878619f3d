"""The check of an installation, by itself and as a command."""

import json

import pytest
from click.testing import CliRunner

from services.start import training_run
from services.training.run import self_check as checks
from services.training.run.self_check import LEAST_RIGHT, SelfCheckError, self_check


def test_a_sound_installation_passes_and_names_its_device() -> None:
    ran = CliRunner().invoke(training_run, ["--self-check"])
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["right"] >= LEAST_RIGHT and told["device"]


def test_a_gpu_that_torch_does_not_see_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ran = CliRunner().invoke(training_run, ["--self-check", "--device", "gpu"])
    assert ran.exit_code == 3 and "it needs a machine with an NVIDIA GPU" in ran.stderr


def test_a_fit_that_learns_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_SMALL", checks._SMALL.__class__(dim=16, window=6, epochs=0))
    with pytest.raises(SelfCheckError, match="too little"):
        self_check()
