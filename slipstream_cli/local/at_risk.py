"""The accepted records that only the embedded broker has: its crash loses them."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from http.client import HTTPException
from typing import Any, Final

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.readiness import get_json, metric

# Seconds between two samples. What is accepted between them counts as lost in a crash.
_EVERY_S: Final = 5.0
_ACCEPTED: Final = "slipstream_ingestion_records_total"


class RecordsAtRisk:
    """An upper bound of the accepted records that features has not yet read."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Accepted records at the last sample, and those of them that were not read.
        self._sample: tuple[float, int] | None = None

    @cached_property
    def _credential(self) -> Callable[[], str]:
        return self._plan.credential("supervisor")

    def status(self) -> tuple[int, Any]:
        """Ask features for its progress: the HTTP status, and the body.

        Raises:
            OSError, HTTPException, ValueError: There is no answer.
        """
        token = self._credential()
        return get_json(
            self._plan.ports["features"],
            "/v1/status",
            {"Authorization": f"Bearer {token}"} if token else {},
        )

    def watch(self, stop: threading.Event) -> None:
        """Take samples until `stop` is set."""
        while not stop.wait(_EVERY_S):
            with suppress(OSError, HTTPException, ValueError):
                self.sample()

    def sample(self) -> None:
        """Take a sample. It raises what `status` raises."""
        accepted = metric(self._plan.ports["ingestion"], _ACCEPTED)
        code, status = self.status()
        if code == 200:
            self._sample = accepted, int(status["lag"])

    def at_most(self) -> int | None:
        """Return the bound for a broker that has just died.

        None where it is not known: a service gives no answer, or ingestion has restarted.
        """
        sample, self._sample = self._sample, None
        try:
            accepted = metric(self._plan.ports["ingestion"], _ACCEPTED)
        except (OSError, HTTPException):
            return None
        if sample is None or accepted < sample[0]:
            return None
        return sample[1] + int(accepted - sample[0])
