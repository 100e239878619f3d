"""What attacks must not gain: a victim's history, a place in it or in all visitors' lists, other
visitors' waiting, or metrics without end.
"""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from bench.load import basic_auth
from tests.hostile.attacks import LIFTED, PLANTED, THIEF, VICTIM
from tests.hostile.bed import API_TOKEN, SERVER_KEY

# Longest wait for an event to be seen, and the pause between two events.
_TIMEOUT_S, _PAUSE_S = 60.0, 0.5
# Most that pages of one address may add to an item: three new visitors, who buy it.
_MOST_LIFT = 9.0
# Most lines of metrics that attacks may add to a service: routes, methods and statuses are few.
_MOST_LINES = 600


class Reader:
    """Asks features for visitors, as a shop does for its pages."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        token = {"Authorization": f"Bearer {API_TOKEN}"}
        self._ports = ports
        self._client = httpx.Client(headers=token, timeout=30.0)

    def items(self, visitor: str) -> set[str]:
        """The items of the visitor's history."""
        url = f"http://127.0.0.1:{self._ports['features']}/v1/features/visitor/{visitor}"
        answer = self._client.get(url)
        if answer.status_code == 404:
            return set()
        return {event["item_id"] for event in answer.raise_for_status().json()["sequence"]}

    def lags_ms(self, seconds: float) -> list[float]:
        """How long events of new visitors take to be seen, one after the other."""
        end, lags = time.monotonic() + seconds, list[float]()
        while time.monotonic() < end:
            visitor, begin = f"new-{time.time_ns()}", time.monotonic()
            self._send({"anonymousId": visitor})
            while not self.items(visitor) and time.monotonic() < begin + _TIMEOUT_S:
                time.sleep(0.02)
            lags.append((time.monotonic() - begin) * 1_000)
            time.sleep(_PAUSE_S)
        return lags

    def thefts(self) -> list[str]:
        """What the attack "link to a victim" has gained, in words."""
        theirs, stolen = self.items(VICTIM), self.items(THIEF)
        gains = []
        if stolen - {PLANTED}:
            gains.append(f"{THIEF} reads what {VICTIM} viewed: {sorted(stolen & theirs)}")
        if PLANTED in theirs:
            gains.append(f"{THIEF} wrote into the history of {VICTIM}")
        return gains

    def lifts(self) -> list[str]:
        """The items that "repeats" and "made-up visitors" have lifted too far, in words."""
        url = f"http://127.0.0.1:{self._ports['serving']}/v1/trending?n=100"
        items = self._client.get(url).raise_for_status().json()["items"]
        return [
            f"{item['item_id']} has {item['score']:.1f} in the trending items"
            for item in items
            if item["item_id"].startswith(LIFTED) and item["score"] > _MOST_LIFT
        ]

    def metric_lines(self) -> dict[str, int]:
        """The lines of each service's metrics."""
        return {
            name: len(self._client.get(f"http://127.0.0.1:{port}/metrics").text.splitlines())
            for name, port in self._ports.items()
        }

    def grown(self, before: Mapping[str, int]) -> list[str]:
        """The services with too many lines of metrics compared with before, in words."""
        return [
            f"{name}: {lines - before[name]} more lines of metrics"
            for name, lines in self.metric_lines().items()
            if lines > before[name] + _MOST_LINES
        ]

    def _send(self, ids: dict[str, Any]) -> None:
        event = {"event": "Product Viewed", "properties": {"product_id": "i1"}, **ids}
        url = f"http://127.0.0.1:{self._ports['ingestion']}/v1/track"
        self._client.post(url, json=event, headers=basic_auth(SERVER_KEY)).raise_for_status()
