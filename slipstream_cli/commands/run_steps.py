"""Wait for a step of a training run: its outputs, or why it will not come.

A step starts nothing. So the command may be killed and repeated, and training may be unavailable
meanwhile.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from slipstream.contracts.steps import RunSteps
from slipstream_cli.peers import asleep, segment

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer

POLL_S: Final = 1.0
# Seconds between looks at a promoted version.
WATCH_S: Final = 10.0
# Alerts of monitoring that are about the model in service.
MODEL_ALERTS: Final = (
    "click_through_dropped",
    "fallback_share_high",
    "fallback_share_rose",
)
DAY_S: Final = 86_400.0
# Longest time in which serving takes a promoted version: it hears of it at once, or after 30 s.
SERVED_S: Final = 180.0
# Answers in a row that must name it, for each process that has answered, and at least.
_FOR_EACH, _AT_LEAST = 10, 20
# Longest time that training may be unavailable, as for an update.
PATIENCE_S: Final = 600.0

Answer = TypeVar("Answer")


class RunEndedError(click.ClickException):
    """The run has failed or was cancelled before the step."""

    exit_code = 3


class RefusedError(click.ClickException):
    """The gate refused, so the step is skipped."""

    exit_code = 4


class AlertedError(click.ClickException):
    """Monitoring has opened an alert about the model since its promotion."""

    exit_code = 6


class TimeOverError(click.ClickException):
    """The step is not over in time, or serving has not taken the version."""

    exit_code = 5


def answered(ask: Callable[[], Answer], patience_s: float | None = None) -> Answer:
    """The answer of training, which is asked again while it is unavailable.

    The first wait is written to stderr. `ask` may be called several times.

    Raises:
        PeerError: Training refuses, or is unavailable for longer than `patience_s`, ten minutes
            by default.
    """
    from slipstream.chassis.client import PeerError

    began, told = time.monotonic(), False
    most_s = PATIENCE_S if patience_s is None else patience_s
    while True:
        try:
            answer = ask()
        except PeerError as error:
            away = error.status in (None, 502, 503, 504)
            if not away or time.monotonic() - began > most_s:
                raise
            if not told:
                click.echo(f"training does not answer; waiting for it: {error}", err=True)
            told = True
            time.sleep(POLL_S)
        else:
            if told:
                click.echo(f"training answers after {time.monotonic() - began:.0f} s", err=True)
            return answer


def outputs_of(training: "Peer", run: str, name: str, timeout_s: float) -> dict[str, Any]:
    """Wait until a step of a run is over, and return its outputs with the id of the run.

    Args:
        run: Id or key of the run.
        timeout_s: Longest time to wait (s).

    Raises:
        RunEndedError: The run has failed or was cancelled.
        RefusedError: The gate has refused, and the step comes after it.
        TimeOverError: The time is over.
        PeerError: There is no such run, or training is unavailable for long.
    """
    from slipstream.chassis.client import PeerError

    until, state, run_id = time.monotonic() + timeout_s, "waiting", run
    while (left_s := until - time.monotonic()) > 0:
        try:
            path = f"/v1/runs/{segment(run)}/steps"
            answer = answered(partial(training.get, path), min(PATIENCE_S, left_s))
        except PeerError:
            if time.monotonic() < until:
                raise
            continue
        steps = RunSteps.model_validate(answer)
        step = next(it for it in steps.steps if it.name == name)
        state, run_id = step.state, steps.run_id
        if state in ("succeeded", "refused"):
            return {"run_id": run_id, "step": name, "state": state, **step.outputs}
        if state not in ("waiting", "running"):
            raise _end_of(steps)
        time.sleep(POLL_S)
    raise TimeOverError(f"{name} of {run_id} is {state} after {timeout_s:g} s")


def _end_of(run: RunSteps) -> click.ClickException:
    """Why a step of this run will not come."""
    refusal = next((step.outputs for step in run.steps if step.state == "refused"), None)
    if refusal is not None:
        reason = refusal.get("decision_reason", "")
        return RefusedError(f"the gate refused {run.run_id}: {reason}")
    return RunEndedError(f"{run.run_id} {run.state}: {run.error or 'no reason'}")


def served(
    serving: "Peer", training: "Peer", monitoring: "Peer", promoted: dict[str, Any]
) -> dict[str, Any]:
    """Wait until serving answers with a promoted version, and return the outputs with what it saw.

    Nothing here knows the pods of serving. A Service spreads new connections over them, so ten
    answers in a row for each process that has answered, and twenty at least, must name the version:
    of three pods, one that does not is missed once in 3,000 times.

    Args:
        serving: A client of serving that reconnects.
        training: The client of training, which knows whether another version is champion by now.
        monitoring: The client of monitoring, which knows whether serving sleeps.
        promoted: The outputs of `promote`.

    Raises:
        TimeOverError: It does not within three minutes.
        PeerError: Serving refuses to answer, or training is unavailable for long.
    """
    from slipstream.chassis.client import PeerError

    began, version = time.monotonic(), promoted["model_version"]
    processes, right, found = set[int](), 0, ""
    while time.monotonic() - began < SERVED_S:
        try:
            answer = serving.get("/v1/model")
        except PeerError as error:
            if error.status not in (None, 404, 502, 503, 504):
                raise
            if error.status is None and "serving" in asleep(monitoring):
                return {**promoted, "serving": "asleep"}
            right, found = 0, str(error)
        else:
            right, found = right + 1 if answer["version"] == version else 0, answer["version"]
            processes.add(answer["loaded_at"])
        if right >= max(_AT_LEAST, _FOR_EACH * len(processes)):
            return {**promoted, "serving": "answers", "processes": len(processes)}
        if not right:
            processes.clear()
            if answered(lambda: training.get("/v1/aliases/champion"))["version"] != version:
                return {**promoted, "serving": "replaced"}
            time.sleep(POLL_S)
    raise TimeOverError(
        f"{version} is the champion, but after {SERVED_S:g} s serving still has {found}: its log"
        " says why"
    )


def watched(
    training: "Peer", monitoring: "Peer", run: str, minutes: float, *, roll_back: bool
) -> dict[str, Any]:
    """Watch a promoted version until some minutes after its promotion, and return its quality.

    A later champion ends the watch. Repeats end at the same time, and roll back once.

    Args:
        run: Id or key of the run.
        minutes: Time after the promotion.
        roll_back: Whether an alert makes the champion before it champion again.

    Raises:
        AlertedError: Monitoring has opened an alert of `MODEL_ALERTS` since the promotion.
        PeerError: Training or monitoring is unavailable for long.
    """
    promoted = outputs_of(training, run, "promote", DAY_S)
    version = promoted["model_version"]
    record = answered(lambda: training.get(f"/v1/runs/{segment(promoted['run_id'])}"))
    since = record["finished_at"]
    while True:
        champion = answered(lambda: training.get("/v1/aliases/champion"))["version"]
        listed = answered(lambda: monitoring.get("/v1/alerts", limit=500))["items"]
        alerts = [
            each for each in listed if each["rule"] in MODEL_ALERTS and each["opened_at"] >= since
        ]
        if alerts:
            reason = "; ".join(each["summary"] for each in alerts)
            if roll_back and champion == version:
                body = {"reason": f"{run}: {reason}"[:1_000]}
                champion = training.post("/v1/models:rollback", body)["version"]
            raise AlertedError(
                f"{version}: {reason}; {champion} is the champion"
                + ("" if champion != version else ", go back: slipstream models rollback")
            )
        left_s = since / 1_000 + 60 * minutes - time.time()
        if left_s <= 0 or champion != version:
            report = answered(lambda: monitoring.get("/v1/reports/quality", hours=1))
            rows = [each for each in report["by_model"] if each["model_version"] == version]
            state = "succeeded" if champion == version else "replaced"
            return {"run_id": promoted["run_id"], "step": "watch", "state": state} | {
                "model_version": version,
                "champion": champion,
                "quality": rows[0] if rows else None,
            }
        time.sleep(min(WATCH_S, left_s))


def write_outputs(outputs: dict[str, Any], files: Sequence[str]) -> None:
    """Write outputs into files, each given as NAME=FILE; text as it is, others as JSON.

    Raises:
        click.ClickException: The step has no such output, or the file can't be written.
    """
    for each in files:
        name, _, path = each.partition("=")
        if name not in outputs or not path:
            known = ", ".join(outputs)
            raise click.ClickException(f"--output {each}: NAME=FILE, where NAME is one of {known}")
        value = outputs[name]
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from error
