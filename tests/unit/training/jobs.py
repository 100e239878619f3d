"""Jobs of runs with everything but the interesting part filled in."""

from pathlib import Path
from typing import Any

from services.training.run.job import Job
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings


def job_of(folder: Path, **fields: Any) -> Job:
    """The job of a run `v1` that writes its bundle and checkpoints into a folder."""
    usual = {
        "version": "v1",
        "profile": "fast",
        "namespace": "test",
        "lake": LakeSettings(),
        "training": TrainingSection(),
        "output": folder / "bundle",
        "checkpoints": folder,
    }
    return Job.model_validate(usual | fields)
