import platform

import numpy as np
import pytest

from services.training.run.provenance import environment, program_versions
from services.training.settings import TrainingSection


def test_environment_names_what_figures_depend_on() -> None:
    result = environment()
    assert result["device"]
    assert (result["python"], result["numpy"]) == (platform.python_version(), np.__version__)
    assert int(result["processors"]) >= 1
    assert "" not in result.values()


def test_settings_that_change_the_model_change_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_IMAGE", "slipstream/training:1")
    usual = program_versions(TrainingSection(code_commit="c0ffee"))
    assert (usual["code_commit"], usual["image"]) == ("c0ffee", "slipstream/training:1")
    elsewhere = TrainingSection(launcher="external", exchange="/data/exchange", niceness=0)
    assert program_versions(elsewhere)["settings_sha256"] == usual["settings_sha256"]
    other = program_versions(TrainingSection(seed=1))
    assert other["settings_sha256"] != usual["settings_sha256"]
