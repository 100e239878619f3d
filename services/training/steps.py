"""Steps of a run: its record and the gate's decision, seen as steps.

Nothing is kept about a step but what its run reports.
"""

from typing import Any

from services.training.records import Audit, RunRecord
from services.training.repository import Repository
from slipstream.contracts.rest import Run
from slipstream.contracts.steps import STEP_OF_STAGE, STEPS, RunSteps, Step, StepUsage

_NAMES = [kind.name for kind in STEPS]
_GATE = _NAMES.index("gate")


def steps_of(record: RunRecord, audit: Audit | None) -> RunSteps:
    """The steps of a run; `audit` is the gate's decision about it, None before."""
    run = record.run
    outputs = {name: dict(given) for name, given in record.outputs.items()}
    for name, given in _decided(audit).items():
        outputs[name] = outputs.get(name, {}) | given
    steps = []
    for place, name in enumerate(_NAMES):
        state = _state(run, place, audit)
        given = outputs.get(name, {}) if state not in ("waiting", "skipped") else {}
        if state in ("failed", "cancelled"):
            given = {"error": run.error or state}
        step = _step(name, state, given, [used for used in record.usage if used.step == name])
        if audit is not None and name in ("gate", "promote") and given:
            step.began_at, step.ended_at = audit.decided_at, run.finished_at or audit.decided_at
        steps.append(step)
    return RunSteps(
        run_id=run.run_id,
        key=run.key,
        state=run.state,
        error=run.error,
        steps=steps,
    )


def read_steps(repository: Repository, run: Run) -> RunSteps:
    """The steps of a run, as its records are now."""
    decided = repository.decisions(run.run_id)
    return steps_of(repository.reported(run.run_id), decided[-1] if decided else None)


def tags_of(steps: RunSteps) -> dict[str, str]:
    """Tags of a run in MLflow: the versions that it read, and each step with its time."""
    left_out = {"name", "outputs", "usage"}
    tags = {f"step/{it.name}": it.model_dump_json(exclude=left_out) for it in steps.steps}
    snapshot = next(step.outputs for step in steps.steps if step.name == "snapshot")
    versions = {f"snapshot/{name}": str(value) for name, value in snapshot.items()}
    return tags | versions | {"key": steps.key or ""}


def _decided(audit: Audit | None) -> dict[str, dict[str, Any]]:
    if audit is None:
        return {}
    gate = {
        "decision": audit.outcome,
        "decision_reason": audit.reason,
        "champion_version": audit.champion_version,
    }
    promoted = {"model_version": audit.model_version}
    return {"gate": gate, "promote": promoted}


def _state(run: Run, place: int, audit: Audit | None) -> Any:
    if run.state == "succeeded" or (audit is not None and run.state == "running"):
        if place > _GATE and audit is not None and audit.outcome == "promoted":
            return run.state
        refused = audit is None or audit.outcome != "promoted"
        if place < _GATE or not refused:
            return "succeeded"
        return "refused" if place == _GATE else "skipped"
    if run.state == "queued":
        return "waiting"
    reached = _NAMES.index(STEP_OF_STAGE.get(run.stage.partition(": ")[0], _NAMES[0]))
    if place < reached:
        return "succeeded"
    if run.state == "running":
        return "running" if place == reached else "waiting"
    return run.state if place == reached else "skipped"


def _step(name: str, state: Any, outputs: dict[str, Any], usage: list[StepUsage]) -> Step:
    return Step(
        name=name,
        state=state,
        began_at=min((start.began_at for start in usage), default=None),
        ended_at=max((start.ended_at for start in usage), default=None),
        device=usage[-1].device if usage else "",
        outputs=outputs,
        usage=usage,
        processor_s=round(sum(start.processor_s for start in usage), 3),
    )
