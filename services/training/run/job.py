"""Job, progress and result of a run, as they pass between the service and the run's process.

Imports no model, so that the service loads none.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from services.training.gate import Measurements
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.progress import ProgressStep
from slipstream.contracts.steps import STEP_OF_STAGE
from slipstream.evaluation.figures import Figures
from slipstream.recommender.scripted import ScriptedVisitors


class Job(BaseModel):
    """Job of a run.

    Attributes:
        version: Version of the new bundle.
        profile: Name of the fit's effort.
        namespace: Namespace of the lake's tables.
        lake: Settings of the lake.
        training: Settings of runs.
        output: Directory that the new bundle goes to.
        checkpoints: Directory of files that outlive a kill, for the next attempt.
        champion: Directory of the champion's bundle; None without a champion.
        champion_version: Version of that bundle.
        lake_version: Version of the interactions that an earlier attempt has read; None reads the
            newest.
        catalog_version: Version of the catalogue, likewise.
        onset: When the shift began after which models are compared (ms); None without one.
        attempt: Name of the attempt's files and process; empty for the version.
        pinned: Whether a start without checkpoints reads the versions that an earlier one has
            read, too; else it reads the newest.
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
    onset: int | None = None
    attempt: str = ""
    pinned: bool = False

    @property
    def name(self) -> str:
        """The name by which the exchange and the starter know it."""
        return self.attempt or self.version


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
        scripted: Counts of the visitors that were left out.
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
    scripted: ScriptedVisitors = ScriptedVisitors()
    champion_version: str | None = None
    champion_error: str = ""
    seconds: dict[str, float]
    peak_memory_mb: float


# Parts of a message that later messages do not repeat.
FACTS: Final = ("lake_version", "lake_rows", "catalog_version", "outputs", "usage")

# Seconds between messages, however many steps there are: each becomes a write to the database.
_PAUSE_S = 0.25


class ProgressReporter:
    """Reports the progress of a run, and keeps the seconds of each stage.

    Messages have `stage` and `detail` in words, the `progress` of the run (0 to 1), and `epoch`,
    `epochs` and `loss` of the network. After the lake was read, a message has `lake_version`,
    `lake_rows`, `catalog_version`. `outputs` has the outputs of steps so far, by step
    (`slipstream.contracts.steps`). Progress never goes back.

    Args:
        send: Gets each message.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._stage, self._begin, self._end, self._progress = "", 0.0, 0.0, 0.0
        self._since = self._sent_at = time.perf_counter()
        self._detail = ""
        self._outputs: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, begin: float, end: float) -> None:
        """Begin a stage, which goes from `begin` to `end` in the progress of the run."""
        self.finish()
        self._stage, self._begin, self._end, self._since = name, begin, end, time.perf_counter()
        self._send_message(0.0)

    def fact(self, **facts: Any) -> None:
        """Report facts about the run."""
        self._send_message(0.0, **facts)

    def output(self, **outputs: Any) -> None:
        """Report outputs of the step that the present stage is part of."""
        self._outputs.setdefault(STEP_OF_STAGE[self._stage], {}).update(outputs)
        self.fact(outputs=self._outputs)

    def step(self, step: ProgressStep) -> None:
        """Report a step of the stage; `step.stage` is its detail, unless it names the stage itself.

        Nothing is sent where the last message is a moment old and had the same detail.
        """
        detail = "" if step.stage == self._stage else step.stage
        if detail != self._detail or time.perf_counter() - self._sent_at >= _PAUSE_S:
            self._send_message(
                step.share or 0.0,
                detail=detail,
                epoch=step.epoch,
                epochs=step.epochs,
                loss=step.loss,
            )

    def finish(self) -> None:
        """End the present stage."""
        if self._stage:
            self.seconds[self._stage] = round(time.perf_counter() - self._since, 3)

    def _send_message(self, share: float, **more: Any) -> None:
        self._detail, self._sent_at = more.get("detail", ""), time.perf_counter()
        self._progress = max(self._progress, self._begin + (self._end - self._begin) * share)
        self._send({"stage": self._stage, "progress": round(self._progress, 4), **more})
