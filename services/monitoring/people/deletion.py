"""Deletion of erased visitors' rows from monitoring's tables.

Features tells who is erased. Their rows are deleted once monitoring has committed everything from
before the cut. Rows of what these visitors did since then go, too; their counts stay. What was made
before the erasure, and is read later, is left out as it is read (`consumer`).
"""

import threading
from collections.abc import Callable, Mapping

from services.monitoring.people.repository import ErasureLedger
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.logging import get_logger
from slipstream.contracts.late_records import MARKED_MS
from slipstream.contracts.positions import has_passed
from slipstream.stores.metadata import DatabaseUnavailableError

log = get_logger(__name__)


class RowDeletion:
    """The job of deleting rows. One thread uses it."""

    def __init__(
        self,
        ledger: ErasureLedger,
        committed: Callable[[], Mapping[str, int]],
        clock: Callable[[], int],
        renew: Callable[[], None],
    ) -> None:
        """
        Args:
            ledger: The erasures.
            committed: The offset that monitoring's group has committed, by source; raises
                `BrokerUnavailableError`.
            clock: The time, in ms.
            renew: Renews the lease, or raises: another instance may act by now.
        """
        self._ledger, self._committed = ledger, committed
        self._clock, self._renew = clock, renew

    def run(self, stop: threading.Event, every_s: float) -> None:
        """Delete what is due every `every_s` seconds, until `stop` is set."""
        while not stop.wait(every_s):
            try:
                self.step()
            except (DatabaseUnavailableError, BrokerUnavailableError) as error:
                log.warning("rows of erased visitors wait; it is tried again", reason=str(error))

    def step(self) -> None:
        """Delete the rows of all erasures that are due."""
        waiting = self._ledger.waiting()
        if waiting:
            committed = self._committed()
            due = [each for each, cut in waiting.items() if has_passed(committed, cut)]
            if due:
                self._renew()
                rows = self._ledger.delete_rows(due, self._clock())
                log.info("users were erased from monitoring", erasures=len(due), rows=rows)
        self._ledger.overwrite(self._clock())
        self._ledger.forget_marks(self._clock() - MARKED_MS)
