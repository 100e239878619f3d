"""The program of a pod that asks serving for recommendations until it is stopped.

No request is sent twice: each answer that is not a 200 is a failed one.
"""

import os
import threading
import time
from pathlib import Path

import httpx
import orjson

from tests.cluster.load.signals import RESULT, STOP, hand_over

TIMEOUT_S = 10.0
ITEMS = 10
LONGEST_S = 1_800.0


class Asker:
    """`threads` connections, which ask for the visitors in turn: `rate` times a second in all, or
    as fast as they are answered where it is 0.

    `answers` has a row for each: time (ms since the epoch), visitor, status (0 for a broken
    connection), milliseconds, version of the model, items. Of a failed
    one, the error's code stands for the version.
    """

    def __init__(
        self,
        url: str,
        token: str,
        visitors: list[str],
        threads: int,
        rate: float,
    ) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._visitors, self._threads = visitors, threads
        self._pause = threads / rate if rate else 0.0
        self._over = threading.Event()
        self.answers: list[tuple[int, str, int, float, str | None, list[str]]] = []

    def run(self) -> None:
        threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True)
            for number in range(self._threads)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + LONGEST_S
        while not Path(STOP).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        self._over.set()
        for thread in threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(
            base_url=self._url,
            headers=self._headers,
            timeout=TIMEOUT_S,
            trust_env=False,
        ) as client:
            due = time.monotonic() + self._pause * number / self._threads
            turn = number
            while not self._over.wait(max(0.0, due - time.monotonic())):
                self._one(client, self._visitors[turn % len(self._visitors)])
                turn += self._threads
                due = max(due + self._pause, time.monotonic() - 1.0)

    def _one(self, client: httpx.Client, visitor: str) -> None:
        at, start = time.time_ns() // 1_000_000, time.perf_counter()
        try:
            answer = client.get(f"/v1/recommendations/{visitor}", params={"n": ITEMS})
        except httpx.TransportError as error:
            self.answers.append((at, visitor, 0, 0.0, type(error).__name__, []))
            return
        took = round(1_000 * (time.perf_counter() - start), 1)
        if answer.status_code != 200:
            code = answer.json().get("code") if "json" in answer.headers["content-type"] else None
            self.answers.append((at, visitor, answer.status_code, took, code, []))
            return
        told = answer.json()
        items = [item["item_id"] for item in told["items"]]
        self.answers.append((at, visitor, 200, took, told["model_version"], items))


def main() -> None:
    count, rate = int(os.environ["VISITORS"]), float(os.environ["RATE"])
    asker = Asker(
        os.environ["URL"],
        os.environ["TOKEN"],
        [f"u{number}" for number in range(count)],
        int(os.environ["THREADS"]),
        rate,
    )
    asker.run()
    hand_over(RESULT, orjson.dumps(asker.answers))


if __name__ == "__main__":
    main()
