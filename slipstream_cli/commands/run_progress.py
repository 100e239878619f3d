"""Following a training run over REST until it has ended."""

import time
from collections.abc import Callable
from typing import Any

from slipstream.chassis.client import Peer, PeerError
from slipstream.contracts.rest import Run
from slipstream.contracts.times import format_duration
from slipstream_cli.peers import segment

Show = Callable[[float, str, str], Any]

POLL_S = 0.5
# A service that restarts is waited for so long.
PATIENCE_S = 60.0


def follow(
    training: Peer,
    run_id: str,
    show: Show,
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> Run:
    """The run once it has ended, or, if it was killed, the one that took its work up, once that has
    ended.

    `show` is told the progress (0 to 1), what the run does, and when it should end. Raises
    PeerError for a run that there is not, and when training has not answered for `patience_s`.
    """
    answered = time.monotonic()
    while True:
        try:
            run = Run.model_validate(training.get(f"/v1/runs/{segment(run_id)}"))
        except PeerError as error:
            if (
                error.status not in (None, 502, 503, 504)
                or time.monotonic() - answered > patience_s
            ):
                raise
            show(0.0, "training does not answer; waiting for it", "")
        else:
            answered = time.monotonic()
            show(
                run.progress,
                words(run),
                f"about {format_duration(run.eta_s)} left" if run.eta_s else "",
            )
            if run.resumed_by:
                run_id = run.resumed_by
                continue
            if run.finished_at is not None:
                return run
        time.sleep(poll_s)


def words(run: Run) -> str:
    """What a run does now, or how it has ended."""
    if run.resumed_by:
        return f"{run.error}; {run.resumed_by} takes the work up"
    if run.finished_at is not None or run.state == "queued":
        return {"queued": "waiting for its turn"}.get(run.state, run.state)
    said = [run.stage or "starting"]
    if run.epoch is not None:
        said.append(f"epoch {run.epoch}" + (f" of {run.epochs}" if run.epochs else ""))
    if run.loss is not None:
        said.append(f"loss {run.loss:.4g}")
    return ", ".join(said)
