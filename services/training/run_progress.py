"""Progress of a run under way, from its process's messages into the run's record."""

import time
from collections.abc import Callable
from typing import Any

from services.training.repository import Repository
from services.training.run.eta import Eta
from services.training.run.progress import FACTS
from slipstream.chassis.logging import get_logger
from slipstream.contracts.rest import Run
from slipstream.contracts.times import now_ms

log = get_logger(__name__)


class ProgressRecorder:
    """Records a run's messages, with the time at which the run should end.

    Progress is for people who watch: a message that can't be written is logged and ends no run.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def of(self, run: Run) -> Callable[[dict[str, Any]], None]:
        """The callback for the messages of a run, see `ProgressReporter`.

        The end of a second attempt can't be foretold: it is quick where the first one has been.
        """
        eta = (
            Eta(self._repository.stage_seconds(run.profile), time.monotonic())
            if run.attempt == 1
            else None
        )

        def record(message: dict[str, Any]) -> None:
            expected_at = None
            if eta is not None:
                left_s = eta.left_s(
                    message["stage"], message["progress"], message.get("done"), time.monotonic()
                )
                expected_at = None if left_s is None else now_ms() + int(left_s * 1000)
            self.record(run.run_id, message, expected_at)

        return record

    def record(self, run_id: str, message: dict[str, Any], expected_at: int | None = None) -> None:
        """Record a message; `expected_at` is when the run should end (ms)."""
        facts = {name: message[name] for name in FACTS if name in message}
        fitting = {name: message.get(name) for name in ("epoch", "epochs", "loss")}
        stage = ": ".join(filter(None, (message["stage"], message.get("detail"))))
        try:
            self._repository.note(
                run_id,
                stage=stage,
                progress=message["progress"],
                expected_at=expected_at,
                **fitting,
                **facts,
            )
        except Exception as error:
            log.warning(
                "progress not noted", run_id=run_id, stage=message.get("stage"), reason=str(error)
            )
