from pathlib import Path

import pytest

from tests.unit.serving.state.training_stub import TrainingStub


@pytest.fixture
def training(tmp_path: Path) -> TrainingStub:
    return TrainingStub(tmp_path / "training")
