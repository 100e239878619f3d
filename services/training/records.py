"""Records of runs and decisions, as the repository returns them, and the states of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.contracts.rest import Run
from slipstream.contracts.steps import StepUsage


@dataclass(frozen=True)
class Audit:
    """A decision of the gate, with the numbers and settings that it rested on."""

    run_id: str
    model_version: str
    champion_version: str | None
    outcome: str
    reason: str
    numbers: Mapping[str, float]
    settings: Mapping[str, Any] = field(default_factory=dict)
    decided_at: int = 0


@dataclass(frozen=True)
class LastRun:
    """The newest run, and the state of the lake that was read last, for the triggers.

    Attributes:
        created_at: When the newest run was queued (ms).
        finished_at: When it ended (ms); None while it has not.
        lake_rows: Interactions that the last run which read the lake saw; None before any.
        catalog_version: Version of the catalogue that it saw.
        number: Place of the newest in the order of runs.
        lake_version: Version of the interactions that the last run which read the lake saw.
        unanswered: Onset of the shift that the newest run was to answer (ms), where its model was
            refused.
    """

    created_at: int
    finished_at: int | None
    lake_rows: int | None
    catalog_version: int | None = None
    number: int = 0
    lake_version: int | None = None
    unanswered: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run with what its process has reported about its steps.

    Attributes:
        run: The run.
        outputs: Outputs by step.
        usage: Resources of each start in each step.
    """

    run: Run
    outputs: Mapping[str, Mapping[str, Any]]
    usage: Sequence[StepUsage]


# Where a run may go from each state: one that was killed back to the queue. A run that has ended
# never moves again.
TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "queued": frozenset({"running", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "queued"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
ENDED: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)


class TransitionError(Exception):
    """The run can't go there from the state that it is in."""


class KeyTakenError(Exception):
    """The key was used with other options."""


def leading_to(state: str) -> list[str]:
    """The states from which a run may go to this one."""
    return [before for before, after in TRANSITIONS.items() if state in after]
