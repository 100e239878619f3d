"""A client that sends as SDKs do: each message under its own id, again and again until it has a
200.

It leaves out `sentAt`, which SDKs add: ingestion would move the times by the time on the way, and
what must come of a message could not be said to the millisecond.
"""

import base64
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from urllib.parse import urlsplit

import httpx
import orjson

from tests.faults.traffic import Sent, Traffic

THREADS = 12
LARGEST_BATCH = 8
TIMEOUT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
# Of so many requests the answer is not waited for: the connection is closed, and the messages go
# out again at once.
LOST_ANSWERS = 0.01


class Client:
    """Sends `rate` events a second for `seconds`, in small batches, from `THREADS` connections at
    once. Each goes to the processes of ingestion in turn, and what has no answer from one goes to
    the next, as a load balancer would have it.

    `traffic` makes the messages. After `run()`: `acknowledged` has those that had a 200,
    `unacknowledged` those that never had one, and `figures` counts requests and messages.
    """

    def __init__(
        self, urls: Sequence[str], write_key: str, seed: int, rate: float, name: str = ""
    ) -> None:
        self.urls = list(urls)
        self._authorization = "Basic " + base64.b64encode(f"{write_key}:".encode()).decode()
        self.traffic, self._chance = Traffic(seed, name), random.Random(seed + 1)
        self._messages = self.traffic.messages()
        self._rate = rate
        self._waiting: Queue[list[Sent]] = Queue()
        self._lock = threading.Lock()
        self._ended, self._give_up = threading.Event(), threading.Event()
        self.acknowledged: list[Sent] = []
        self.unacknowledged: list[Sent] = []
        self.rejected: list[str] = []
        self.figures: Counter[str] = Counter()
        self._kept_back: Callable[[Sent], bool] = lambda sent: False
        self._kept: list[Sent] = []

    @contextmanager
    def keeping_back(self, which: Callable[[Sent], bool]) -> Iterator[None]:
        """Send such messages only after the block, unless they are under way already."""
        self._kept_back = which
        try:
            yield
        finally:
            self._kept_back = lambda sent: False
            with self._lock:
                kept, self._kept = self._kept, []
            for start in range(0, len(kept), LARGEST_BATCH):
                self._waiting.put(kept[start : start + LARGEST_BATCH])

    def run(
        self,
        seconds: float,
        patience_s: float,
        going_on: Callable[[], bool] = lambda: True,
        at_most_s: float | None = None,
    ) -> None:
        """Send for `seconds`, and longer while `going_on` says so; return once all is acknowledged,
        or `patience_s` later.

        Args:
            seconds: how long in any case.
            patience_s: how long the last messages may take.
            going_on: whether to send on.
            at_most_s: how long, whatever that says; None takes twice the `seconds`.
        """
        at_most_s = 2 * seconds if at_most_s is None else at_most_s
        senders = [
            threading.Thread(target=self._send_all, args=(number,), daemon=True)
            for number in range(THREADS)
        ]
        for sender in senders:
            sender.start()
        start = time.monotonic()
        made = 0
        while (elapsed := time.monotonic() - start) < seconds or (
            going_on() and elapsed < at_most_s
        ):
            while made < self._rate * elapsed:
                batch = [
                    next(self._messages) for _ in range(self._chance.randint(1, LARGEST_BATCH))
                ]
                made += sum(len(sent.events) for sent in batch)
                self._waiting.put(batch)
            time.sleep(0.005)
        self.figures["seconds"] = round(time.monotonic() - start)
        self._ended.set()
        deadline = time.monotonic() + patience_s
        for sender in senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        self._give_up.set()
        for sender in senders:
            sender.join()

    def _send_all(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http:
            while True:
                try:
                    batch = self._waiting.get(timeout=0.05)
                except Empty:
                    if self._ended.is_set():
                        return
                    continue
                if now := [sent for sent in batch if not self._keep_back(sent)]:
                    self._send(http, now, chance)

    def _keep_back(self, sent: Sent) -> bool:
        if not self._kept_back(sent):
            return False
        with self._lock:
            self._kept.append(sent)
        return True

    def _send(self, http: httpx.Client, batch: Sequence[Sent], chance: random.Random) -> None:
        body = orjson.dumps({"batch": [sent.message for sent in batch]})
        headers = {
            "Authorization": self._authorization,
            "Content-Type": "application/json",
            "User-Agent": "analytics-python/2.3",
        }
        self._count(messages=len(batch), events=sum(len(sent.events) for sent in batch))
        pause, attempts = FIRST_PAUSE_S, 0
        first = chance.randrange(len(self.urls))
        if chance.random() < LOST_ANSWERS:
            self._send_and_hang_up(self.urls[first], body, headers, chance)
            attempts = 1
        while not self._give_up.is_set():
            url = self.urls[(first + attempts) % len(self.urls)]
            attempts += 1
            if attempts > 1:
                self._count(retried_requests=1)
            try:
                answer = http.post(f"{url}/v1/batch", content=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 200:
                self._acknowledge(batch, answer.json()["results"], retried=attempts > 1)
                return
            if answer is not None:
                self._count(**{f"answered_{answer.status_code}": 1})
            time.sleep(pause * chance.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)
        with self._lock:
            self.unacknowledged += batch

    def _send_and_hang_up(
        self, url: str, body: bytes, headers: dict[str, str], chance: random.Random
    ) -> None:
        where = urlsplit(url)
        lines = [f"POST /v1/batch HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._count(answers_lost=1)
        try:
            with socket.create_connection(
                (where.hostname or "", where.port or 80), timeout=1
            ) as connection:
                connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                time.sleep(chance.uniform(0.0, 0.005))
        except OSError:
            return

    def _acknowledge(
        self, batch: Sequence[Sent], results: Sequence[dict[str, str]], retried: bool
    ) -> None:
        with self._lock:
            for sent, verdict in zip(batch, results, strict=True):
                self.figures[verdict["status"]] += 1
                if verdict["status"] == "rejected":
                    self.rejected.append(f"{verdict['message_id']}: {verdict.get('code')}")
                else:
                    self.acknowledged.append(sent)
            self.figures["retried_messages"] += len(batch) * retried

    def _count(self, **counts: int) -> None:
        with self._lock:
            self.figures.update(counts)
