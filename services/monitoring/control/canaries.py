"""The watch over canaries: one that is beyond the bounds of its guard is stopped, for good."""

import threading
from collections.abc import Callable
from typing import Final

from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.guards import Judgement
from services.monitoring.control.named_records_repository import RevisionMismatchError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.experiments import Experiment
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import DatabaseUnavailableError

log = get_logger(__name__)

# The principal of what monitoring does by itself.
PRINCIPAL: Final = "monitoring"
# The sums of all visitors of a canary are read this often: a million take a second.
CLICKS_EVERY_MS: Final = 60_000


class CanaryWatch:
    """Judges canaries, and stops those that are at fault. One thread uses it.

    Args:
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
        # Canaries that the last step could not judge: each is logged once.
        self._unjudged: set[str] = set()
        # By name, the revision and the time for which clicks were compared last.
        self._compared: dict[str, tuple[int, int, float | None]] = {}

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
        found: dict[str, Judgement] = {}
        for experiment in self._table.canaries(now_ms):
            high = self._clicks_high(experiment, now_ms)
            judged = self._table.judgement(experiment, high, now_ms)
            found[experiment.name] = judged
            if judged.state == "beyond":
                self._renew()
                self._stop(experiment, judged.reason, now_ms)
            elif judged.state == "unjudged" and experiment.name not in self._unjudged:
                log.warning(
                    "a canary is unjudged", experiment=experiment.name, reason=judged.reason
                )
        self._unjudged = {name for name, each in found.items() if each.state == "unjudged"}

    def _clicks_high(self, experiment: Experiment, now_ms: int) -> float | None:
        name, revision = experiment.name, experiment.revision
        known = self._compared.get(name)
        if known is None or known[0] != revision or now_ms - known[1] >= CLICKS_EVERY_MS:
            known = self._compared[name] = revision, now_ms, self._table.clicks_high(experiment)
        return known[2]

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
