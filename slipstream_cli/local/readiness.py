"""Readiness and figures of local services, asked over HTTP.

Among them are the accepted records that only the embedded broker has: its crash loses them.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from types import MappingProxyType
from typing import Any, Final

from slipstream_cli.local.plan import Plan

# Seconds between two samples. What is accepted between them counts as lost in a crash.
_EVERY_S: Final = 5.0
_ACCEPTED: Final = "slipstream_ingestion_records_total"


def is_ready(port: int) -> bool:
    """Check that the service on this port is ready: all of its dependencies answer."""
    return why_unready(port) == ""


def why_unready(port: int) -> str:
    """Say why the service on this port is not ready; empty when it is."""
    try:
        status, body = get_json(port, "/health/ready")
    except (OSError, HTTPException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
    if status == 200:
        return ""
    failing = (
        f"{name}: {verdict}" for name, verdict in body.get("checks", {}).items() if verdict != "ok"
    )
    return ", ".join(failing) or f"HTTP {status}"


def get_json(
    port: int, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, Any]:
    """Get a path from a port of this machine.

    Returns:
        The HTTP status, and the parsed body.

    Raises:
        OSError, HTTPException, ValueError: There is no answer, or it is not JSON.
    """
    status, body = _get(port, path, headers)
    return status, json.loads(body)


def metric(port: int, name: str) -> float:
    """Return a metric of the service on this port, the sum of its series.

    Raises:
        OSError, HTTPException: There is no answer.
    """
    lines = _get(port, "/metrics", {})[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(rf"{name}[ {{]", line))


def _get(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    # The standard library's client: making an httpx client costs 30 ms, much when five services
    # are asked several times a second.
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


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
