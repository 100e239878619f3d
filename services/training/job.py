"""What passes between the service and the process of a run. Imports no model, so that the service loads none."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.training.gate import Comparison
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings, LogSettings


class Job(BaseModel):
    """What a run is told. `champion` is the directory of the present champion's bundle, `output` where the new one goes."""

    version: str
    profile: str
    namespace: str
    lake: LakeSettings
    training: TrainingSection
    output: Path
    champion: Path | None = None


class Trained(BaseModel):
    """What a run found. The bundle itself is at the job's `output`.

    `against_champion` is None when there was none or nothing to compare on; `champion_error` says why one could not be loaded.
    """

    lake_version: int
    catalog_version: int | None
    data_sha256: str
    code_commit: str | None
    metrics: dict[str, float]
    parameters: dict[str, Any]
    popularity: Comparison
    against_champion: Comparison | None = None
    champion_error: str = ""
    seconds: dict[str, float]
    peak_memory_mb: float


class Order(BaseModel):
    """What the service writes on standard input: one line."""

    job: Job
    log: LogSettings
    parent: int
    request_id: str = ""
