"""The watch over canaries: one that is beyond the bounds of its guard is stopped, for good."""

import threading
from collections.abc import Callable
from typing import Final

from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.guards import fault
from services.monitoring.control.named_records_repository import RevisionMismatchError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import DatabaseUnavailableError

log = get_logger(__name__)

# The principal of what monitoring does by itself.
PRINCIPAL: Final = "monitoring"


class CanaryWatch:
    """Judges canaries, and stops those that are at fault. One thread uses it.

    Args:
        table: The experiments.
        changed: Called after a stop, to publish it.
        renew: Renews the lease, or raises: another instance may act by now.
        clock: The time, in ms.
    """

    def __init__(
        self,
        table: ExperimentTable,
        changed: Callable[[], None],
        renew: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._table, self._changed = table, changed
        self._renew, self._clock = renew, clock

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Judge all canaries every `every_s` seconds, until `stop` is set."""
        while not stop.wait(every_s):
            try:
                self.step()
            except DatabaseUnavailableError as error:
                log.warning("canaries are not judged; it is tried again", reason=str(error))

    def step(self) -> None:
        """Judge all canaries that count now."""
        now_ms = self._clock()
        for experiment in self._table.canaries(now_ms):
            reason = self._fault(experiment, now_ms)
            if reason:
                self._renew()
                self._stop(experiment, reason, now_ms)

    def _fault(self, experiment: Experiment, now_ms: int) -> str:
        design = experiment.design
        began_ms = now_ms - design.guard.window_s * 1000
        changed_ms = max(experiment.changed_at, design.starts_at or 0)
        answers = self._table.recent_answers(experiment.name, max(began_ms, changed_ms))
        control, canary = (
            [answer for answer in answers if answer.variant == variant.name]
            for variant in design.variants
        )
        return fault(design.guard, control, canary, is_whole=changed_ms <= began_ms)

    def _stop(self, experiment: Experiment, reason: str, now_ms: int) -> None:
        stopped = {"state": "stopped", "stopped_because": reason}
        audit = AuditRecord(
            at=now_ms,
            principal=PRINCIPAL,
            action="return_canary",
            subject=experiment.name,
            detail={"reason": reason},
        )
        try:
            self._table.put(
                experiment.name,
                experiment.design.model_copy(update=stopped),
                audit,
                experiment.revision,
            )
        except RevisionMismatchError:  # somebody was faster: the next round sees what they made
            return
        self._changed()
        log.warning("a canary was returned", experiment=experiment.name, reason=reason)
