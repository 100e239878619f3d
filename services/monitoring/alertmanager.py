"""Open alerts on their way to Alertmanagers, which group, silence and deliver them.

Source: the API of version 2, https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml.
An Alertmanager forgets an alert that is not posted again, so a round posts all that are open.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from services.monitoring.alert_rules import Alert
from services.monitoring.runbook import address
from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

# The name that Prometheus' rule has for the same alerts: both are one group.
NAME: Final = "SlipstreamAlertOpen"
_PATH: Final = "/api/v2/alerts"
# Time for which a posted alert counts without being posted again, at least.
LASTS_MS: Final = 300_000
_LONGEST_EVIDENCE: Final = 4_000


def postable(
    alerts: Sequence[Alert], stack: str, until_ms: int, runbook: str
) -> list[dict[str, Any]]:
    """The alerts as Alertmanager's `postableAlerts`.

    Args:
        alerts: Open alerts, and those that have closed since the last post.
        stack: Name of the stack, which tells several at one Alertmanager apart.
        until_ms: Time (ms) at which an open alert ends unless it is posted again.
        runbook: Address of the runbook.
    """
    return [
        {
            "labels": {
                "alertname": NAME,
                "rule": alert.rule,
                "severity": alert.severity.value,
                "service": "monitoring",
                "stack": stack,
            },
            "annotations": {
                "summary": alert.summary,
                "evidence": orjson.dumps(alert.evidence).decode()[:_LONGEST_EVIDENCE],
                "runbook" if " " in alert.runbook else "runbook_url": address(
                    alert.runbook, runbook
                ),
            },
            "startsAt": _time(alert.opened_at),
            "endsAt": _time(until_ms if alert.closed_at is None else alert.closed_at),
        }
        for alert in alerts
    ]


class AlertmanagerClient:
    """Posts alerts to each of several Alertmanagers. One thread uses it.

    Args:
        urls: Addresses; as Prometheus does, every one gets all alerts.
        stack: Name of the stack.
        runbook: Address of the runbook.
        lasts_ms: Time for which a posted alert counts.
        timeout_s: Deadline of a post.
        transport: Transport of a test.
    """

    def __init__(
        self,
        urls: Sequence[str],
        stack: str,
        runbook: str,
        *,
        lasts_ms: int,
        timeout_s: float,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._urls, self._stack, self._runbook = urls, stack, runbook
        self._lasts_ms = max(lasts_ms, LASTS_MS)
        self._http = httpx.Client(timeout=timeout_s, transport=transport)
        self._failing: set[str] = set()

    def post(self, alerts: Sequence[Alert], now_ms: int) -> None:
        """Post the alerts. Of a failure the first attempt is logged; the next round posts again."""
        if not alerts:
            return
        body = postable(alerts, self._stack, now_ms + self._lasts_ms, self._runbook)
        for number, url in enumerate(self._urls, 1):
            try:
                self._http.post(url.rstrip("/") + _PATH, json=body).raise_for_status()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # An address may hold a password.
                reason = (
                    f"it answers {error.response.status_code}: {error.response.text[:200]}"
                    if isinstance(error, httpx.HTTPStatusError)
                    else type(error).__name__
                )
                if url not in self._failing:
                    log.warning("an Alertmanager gets no alerts", number=number, reason=reason)
                self._failing.add(url)
            else:
                self._failing.discard(url)

    def close(self) -> None:
        self._http.close()


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds")
