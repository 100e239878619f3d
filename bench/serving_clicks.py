"""Recommendations from kept lists, for visitors who click between their requests."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx
import orjson

from bench.load import closed_loop, in_own_process
from bench.measurements import BenchmarkError, Measurement

# Clicks for each request that the service answers without kept lists: one of five.
CLICKS_A_REQUEST: Final = 0.2
SECONDS: Final = 6.0
# Time from one batch of clicks to the next.
_EVERY_S: Final = 0.1
_ANSWERS: Final = re.compile(
    r'^slipstream_recommendations_total\{step="model"\} (\S+)$', re.MULTILINE
)
_KEPT: Final = re.compile(r"^slipstream_kept_lists_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Clicks:
    """The clicks of visitors, one after the other.

    Attributes:
        url: Ingestion.
        write_key: A key that it accepts.
        visitors: Ids of the visitors.
    """

    url: str
    write_key: str
    visitors: Sequence[str]

    @contextmanager
    def at(self, rate: float, items: Sequence[str]) -> Iterator[Callable[[], float]]:
        """Send `rate` clicks a second on these items during the block.

        Yields:
            A function that returns the clicks a second that ingestion has accepted, once the block
            has ended.

        Raises:
            BenchmarkError: Ingestion refused some.
        """
        stopping = threading.Event()
        with ThreadPoolExecutor(1) as background:
            sending = background.submit(self._send, rate, items, stopping)
            try:
                yield sending.result
            finally:
                stopping.set()
        sending.result()

    def _send(self, rate: float, items: Sequence[str], stopping: threading.Event) -> float:
        """Send clicks until the event is set, and return how many were accepted a second."""
        started, sent = time.monotonic(), 0
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not stopping.wait(_EVERY_S):
                due = min(int((time.monotonic() - started) * rate), sent + 500)
                batch = [self._event(number, items) for number in range(sent, due)]
                try:
                    answer = client.post(
                        "/v1/batch",
                        content=orjson.dumps({"batch": batch, "writeKey": self.write_key}),
                        headers={"Content-Type": "application/json"},
                    )
                except httpx.TransportError as error:
                    raise BenchmarkError(f"ingestion did not take the clicks: {error}") from error
                if answer.status_code != 200 or answer.json()["accepted"] != len(batch):
                    raise BenchmarkError(f"ingestion did not accept clicks: {answer.text[:300]}")
                sent = due
        return sent / (time.monotonic() - started)

    def _event(self, number: int, items: Sequence[str]) -> dict[str, object]:
        visitor = self.visitors[number * 7 % len(self.visitors)]
        return {
            "type": "track",
            "event": "view",
            "userId": visitor,
            "messageId": f"{visitor}-click-{time.time_ns()}",
            "properties": {"item_id": items[number * 31 % len(items)]},
        }


def run(
    url: str,
    clicks: Clicks,
    requests: Sequence[bytes],
    items: Sequence[str],
    *,
    made: Measurement,
    connections: int,
) -> Measurement:
    """Measure requests/s in a closed loop, where lists may be kept, while visitors click.

    Args:
        requests: Prepared requests of the same visitors.
        made: The figure without kept lists, and its ceiling.

    Raises:
        BenchmarkError: Requests or clicks failed.
    """
    rate = CLICKS_A_REQUEST * made["value"]
    answers, kept = _counted(url)
    with clicks.at(rate, items) as clicked:
        load = in_own_process(closed_loop, url, requests, connections=connections, seconds=SECONDS)
    answers_after, kept_after = _counted(url)
    if load.failed or answers_after == answers:
        raise BenchmarkError(
            f"{load.failed} requests failed, {answers_after - answers:g} were by the model"
        )
    share = (kept_after - kept) / (answers_after - answers)
    return Measurement(
        name="the same, lists kept",
        value=load.rate,
        unit="requests/s",
        ceiling=made["ceiling"],
        ratio=load.rate / made["ceiling"],
        note=f"{share:.0%} of the lists were kept ones,"
        f" while visitors made {clicked():.0f} clicks/s",
        **load.percentiles(),
    )


def _counted(url: str) -> tuple[float, float]:
    """Read the numbers of answers by the model, and of kept lists, since serving started."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    return sum(map(float, _ANSWERS.findall(text))), sum(map(float, _KEPT.findall(text)))
