"""Polling of a training run over REST until it has ended."""

import time
from collections.abc import Callable
from typing import Any

from slipstream.chassis.client import Peer, PeerError
from slipstream.contracts.rest import Run
from slipstream_cli.peers import segment

Show = Callable[[float, str], Any]

POLL_S = 0.5
# Longest wait for training while it restarts.
PATIENCE_S = 60.0


def follow(
    training: Peer,
    run_id: str,
    show: Show,
    *,
    poll_s: float = POLL_S,
    patience_s: float = PATIENCE_S,
) -> Run:
    """Poll a run until it has ended, and return it.

    Args:
        show: Called at each poll with the progress (0 to 1) and the activity in words.
        patience_s: Seconds that training may be unavailable, as for a restart.

    Raises:
        PeerError: There is no such run, or training is unavailable for longer.
    """
    answered = time.monotonic()
    while True:
        try:
            run = Run.model_validate(training.get(f"/v1/runs/{segment(run_id)}"))
            ahead = behind(training, run)
        except PeerError as error:
            if (
                error.status not in (None, 502, 503, 504)
                or time.monotonic() - answered > patience_s
            ):
                raise
            show(0.0, "training does not answer; waiting for it")
        else:
            answered = time.monotonic()
            show(run.progress, activity(run, ahead))
            if run.finished_at is not None:
                return run
        time.sleep(poll_s)


def behind(training: Peer, run: Run) -> str:
    """Name the runs that a queued one waits for, as " behind r1 (running, 40 %)"; else "".

    Raises:
        PeerError: Training does not answer.
    """
    if run.state != "queued":
        return ""
    latest = [Run.model_validate(it) for it in training.get("/v1/runs", limit=50)["items"]]
    earlier = [
        f"{it.run_id} (running, {100 * it.progress:.0f} %)"
        if it.state == "running"
        else f"{it.run_id} (queued)"
        for it in sorted(latest, key=lambda it: (it.state != "running", it.created_at))
        if it.state in ("queued", "running")
        and (it.created_at, it.run_id) < (run.created_at, run.run_id)
    ]
    return f" behind {', '.join(earlier)}" if earlier else ""


def activity(run: Run, behind: str = "") -> str:
    """Describe a run's present stage, or its outcome; `behind` says what a queued one waits for."""
    if run.finished_at is not None:
        return run.state
    again = f", attempt {run.attempt} ({run.error})" if run.error else ""
    if run.state == "queued":
        return f"waiting for its turn{behind}{again}"
    parts = [f"{run.stage or 'starting'}{again}"]
    if run.epoch is not None:
        parts.append(f"epoch {run.epoch}" + (f" of {run.epochs}" if run.epochs else ""))
    if run.loss is not None:
        parts.append(f"loss {run.loss:.4g}")
    return ", ".join(parts)
