"""How far a run is: what its process tells the service."""

import time
from collections.abc import Callable
from typing import Any

from slipstream.contracts.progress import ProgressStep

# Steps are told at most so often, whatever calls them: each becomes a write to the database.
_PAUSE_S = 0.25


class ProgressReporter:
    """Where a run says how far it is. `send` gets messages: `stage`, `detail` (in words),
    `progress` of the run and `done` of the stage (0 to 1; `done` None where that can't be told),
    `epoch`, `epochs` and `loss` of what is being fitted, and once the lake was read `lake_version`,
    `lake_rows`, `catalog_version`. Progress never goes back.

    Keeps how long each stage took.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._stage, self._begin, self._end, self._progress = "", 0.0, 0.0, 0.0
        self._since = self._told_at = time.perf_counter()
        self._detail = ""
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, begin: float, end: float) -> None:
        """A stage begins; in the progress of the run it goes from `begin` to `end`."""
        self.finish()
        self._stage, self._begin, self._end, self._since = name, begin, end, time.perf_counter()
        self._tell(None)

    def fact(self, **facts: Any) -> None:
        """Something about the run is known now."""
        self._tell(None, **facts)

    def step(self, step: ProgressStep) -> None:
        """The stage goes on; `step.stage` is its detail, unless it is the stage's own name.

        Left out where the last message is a moment old and had the same detail.
        """
        detail = "" if step.stage == self._stage else step.stage
        if detail != self._detail or time.perf_counter() - self._told_at >= _PAUSE_S:
            self._tell(
                step.share, detail=detail, epoch=step.epoch, epochs=step.epochs, loss=step.loss
            )

    def finish(self) -> None:
        """The present stage is over."""
        if self._stage:
            self.seconds[self._stage] = round(time.perf_counter() - self._since, 3)

    def _tell(self, done: float | None, **more: Any) -> None:
        self._detail, self._told_at = more.get("detail", ""), time.perf_counter()
        self._progress = max(
            self._progress, self._begin + (self._end - self._begin) * (done or 0.0)
        )
        self._send(
            {"stage": self._stage, "progress": round(self._progress, 4), "done": done, **more}
        )
