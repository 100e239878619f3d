"""Job and result of a run, as they pass between the service and the run's process.

Imports no model, so that the service loads none.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from services.training.gate import Measurements
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings, LogSettings
from slipstream.evaluation.figures import Figures


class Job(BaseModel):
    """Job of a run.

    Attributes:
        version: Version of the new bundle.
        profile: Name of the fit's effort.
        namespace: Namespace of the lake's tables.
        lake: Settings of the lake.
        training: Settings of runs.
        output: Directory that the new bundle goes to.
        checkpoints: Directory whose files outlive a kill, for the next attempt.
        champion: Directory of the champion's bundle; None without a champion.
        champion_version: Version of that bundle.
        lake_version: Version of the interactions that an earlier attempt has read; None reads the
            newest.
        catalog_version: Version of the catalogue, likewise.
    """

    version: str
    profile: str
    namespace: str
    lake: LakeSettings
    training: TrainingSection
    output: Path
    checkpoints: Path
    champion: Path | None = None
    champion_version: str | None = None
    lake_version: int | None = None
    catalog_version: int | None = None


class SampleItem(BaseModel):
    """An item for people; `source` is the retriever that it came from, if it was recommended."""

    item_id: str
    title: str = ""
    source: str = ""


class Sample(BaseModel):
    """A visitor of the test, as evidence for people.

    Attributes:
        cohorts: Cohorts of the visitor.
        history: Last items, oldest first.
        next_item: Item that came next.
        champion: The champion's list; None without a champion.
        challenger: The challenger's list.
    """

    cohorts: list[str]
    history: list[SampleItem]
    next_item: SampleItem
    champion: list[SampleItem] | None
    challenger: list[SampleItem]


class TrainingResult(BaseModel):
    """Result of a run; its bundle is at the job's `output`.

    Attributes:
        lake_version: Version of the interactions that it was fitted on.
        catalog_version: Version of the catalogue.
        data_sha256: Digest of the interactions.
        code_commit: Commit of the program; None where it is not known.
        environment: Versions and machine.
        metrics: Figures of all models under flat names: the challenger's (`ndcg@10`), by cohort
            (`cohort/new/ndcg@10`), and `champion/ndcg@10`, `popularity/ndcg@10`.
        figures: The same with intervals, by model, then by cohort.
        parameters: Parameters of the bundle.
        measured: Measurements that the gate decides on.
        samples: Visitors of the test.
        champion_version: Version of the champion that it was measured against; None without one.
        champion_error: Why the champion could not be loaded; empty where it was.
        seconds: Seconds of each stage, in order.
        peak_memory_mb: Most memory of the process (MiB).
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
    champion_version: str | None = None
    champion_error: str = ""
    seconds: dict[str, float]
    peak_memory_mb: float


class Order(BaseModel):
    """The line that the service writes on the process's standard input."""

    job: Job
    log: LogSettings
    parent: int
    request_id: str = ""
