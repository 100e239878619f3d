"""Steps of a training run: what each consists of, gives and uses.

A step is a view of a run. It starts nothing, so that asking for it again is harmless.
"""

from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel, Field


class StepKind(NamedTuple):
    """One step of every run.

    Attributes:
        stages: Stages of a run's progress that it consists of.
        outputs: Names of those of its outputs that pipelines get as text.
    """

    name: str
    stages: tuple[str, ...]
    outputs: tuple[str, ...] = ()


# Stage of a run before its process has started.
WAITING: Final = "waiting for a machine"
STEPS: Final = (
    StepKind("test", ("", WAITING, "starting")),
    StepKind("snapshot", ("reading the lake",), ("lake_version", "code_commit", "settings_sha256")),
    StepKind("validate", ("checking the data",), ("findings",)),
    StepKind("train", ("fitting the challenger",)),
    StepKind(
        "evaluate",
        ("judging", "fitting on everything", "saving the bundle"),
    ),
    StepKind("gate", ("publishing",), ("decision", "decision_reason")),
    StepKind("promote", (), ("model_version",)),
)
STEP_OF_STAGE: Final = {stage: kind.name for kind in STEPS for stage in kind.stages}


class StepUsage(BaseModel):
    """Time of one start of a run's process in one step.

    Attributes:
        step: The step.
        start: When the process started (ms), which tells the starts of a run apart.
        began_at: When the step began (ms).
        ended_at: When it ended, or was last heard of (ms).
        device: Name of the GPU, or `cpu`.
        processor_s: Seconds of processors that the process used.
    """

    step: str
    start: int
    began_at: int
    ended_at: int
    device: str = ""
    processor_s: float = 0.0


class Step(BaseModel):
    """A step of a run. `refused` is the gate's, and the steps after it are `skipped`.

    `usage` has every start of the run that computed in the step, also those that were killed;
    `processor_s` is their sum.
    """

    name: str
    state: Literal["waiting", "running", "succeeded", "refused", "skipped", "failed", "cancelled"]
    began_at: int | None = None
    ended_at: int | None = None
    device: str = ""
    outputs: dict[str, Any] = Field(default_factory=dict)
    usage: list[StepUsage] = Field(default_factory=list)
    processor_s: float = 0.0


class RunSteps(BaseModel):
    """Steps of a run, in their order, over all its attempts."""

    run_id: str
    key: str | None = None
    state: str
    error: str | None = None
    steps: list[Step]
