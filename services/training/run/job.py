"""What passes between the service and the process of a run. Imports no model, so that the service
loads none.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.training.gate import Measurements
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings, LogSettings
from slipstream.evaluation.figures import Figures


class Job(BaseModel):
    """What a run is told. `champion` is the directory of the present champion's bundle, `output`
    where the new one goes.

    What is put into `checkpoints` outlives a kill: the next attempt finds it there, and is told the
    versions of the lake that it came from. Without these the newest are read.
    """

    version: str
    profile: str
    namespace: str
    lake: LakeSettings
    training: TrainingSection
    output: Path
    checkpoints: Path
    champion: Path | None = None
    lake_version: int | None = None
    catalog_version: int | None = None


class SampleItem(BaseModel):
    """An item as people are shown it; `source` is the retriever that spoke most for it, where it
    was recommended.
    """

    item_id: str
    title: str = ""
    source: str = ""


class Sample(BaseModel):
    """One visitor of the test: the last events (oldest first), what came next, and what each model
    would have recommended.

    `champion` is None where there was none.
    """

    cohorts: list[str]
    history: list[SampleItem]
    next_item: SampleItem
    champion: list[SampleItem] | None
    challenger: list[SampleItem]


class TrainingResult(BaseModel):
    """What a run found. The bundle itself is at the job's `output`.

    `metrics` are the figures of all models that were asked under flat names: the challenger's own
    (`ndcg@10`), by cohort (`cohort/new/ndcg@10`), and `champion/ndcg@10`, `popularity/ndcg@10`.
    `figures` are the same with intervals, of each model, by cohort. `measured` is what the gate
    decides on; `champion_error` says why the champion could not be loaded.
    """

    lake_version: int
    catalog_version: int | None
    data_sha256: str
    code_commit: str | None
    environment: dict[str, str] = {}
    metrics: dict[str, float]
    figures: dict[str, dict[str, Figures]] = {}
    parameters: dict[str, Any]
    measured: Measurements
    samples: list[Sample] = []
    champion_error: str = ""
    seconds: dict[str, float]
    peak_memory_mb: float


class Order(BaseModel):
    """What the service writes on standard input: one line."""

    job: Job
    log: LogSettings
    parent: int
    request_id: str = ""
