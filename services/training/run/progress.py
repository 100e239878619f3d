"""Progress of a run, as its process reports it to the service."""

import time
from collections.abc import Callable
from typing import Any, Final

from slipstream.contracts.progress import ProgressStep

# Parts of a message that later messages do not repeat.
FACTS: Final = ("lake_version", "lake_rows", "catalog_version")

# Seconds between messages, however many steps there are: each becomes a write to the database.
_PAUSE_S = 0.25


class ProgressReporter:
    """Reports the progress of a run, and keeps the seconds of each stage.

    Messages have `stage` and `detail` in words, the `progress` of the run and the share `done` of
    the stage (0 to 1, `done` None where it is not known), and `epoch`, `epochs` and `loss` of the
    network. After the lake was read, a message has `lake_version`, `lake_rows`, `catalog_version`.
    Progress never goes back.

    Args:
        send: Gets each message.
    """

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._stage, self._begin, self._end, self._progress = "", 0.0, 0.0, 0.0
        self._since = self._sent_at = time.perf_counter()
        self._detail = ""
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, begin: float, end: float) -> None:
        """Begin a stage, which goes from `begin` to `end` in the progress of the run."""
        self.finish()
        self._stage, self._begin, self._end, self._since = name, begin, end, time.perf_counter()
        self._send_message(None)

    def fact(self, **facts: Any) -> None:
        """Report facts about the run."""
        self._send_message(None, **facts)

    def step(self, step: ProgressStep) -> None:
        """Report a step of the stage; `step.stage` is its detail, unless it names the stage itself.

        Nothing is sent where the last message is a moment old and had the same detail.
        """
        detail = "" if step.stage == self._stage else step.stage
        if detail != self._detail or time.perf_counter() - self._sent_at >= _PAUSE_S:
            self._send_message(
                step.share, detail=detail, epoch=step.epoch, epochs=step.epochs, loss=step.loss
            )

    def finish(self) -> None:
        """End the present stage."""
        if self._stage:
            self.seconds[self._stage] = round(time.perf_counter() - self._since, 3)

    def _send_message(self, done: float | None, **more: Any) -> None:
        self._detail, self._sent_at = more.get("detail", ""), time.perf_counter()
        self._progress = max(
            self._progress, self._begin + (self._end - self._begin) * (done or 0.0)
        )
        self._send(
            {"stage": self._stage, "progress": round(self._progress, 4), "done": done, **more}
        )
