"""An HTTP load generator: prepared requests over kept-alive connections.

Closed loop: each of `connections` callers sends its next request when it has its answer. It gives
the most requests/s of a server. Open loop: requests leave at a fixed rate, whatever the answers do.
Latency counts from the moment a request was due, so a stall counts for every request that it held
up (no coordinated omission).

Both run in a separate process (`in_own_process`), so that they share no interpreter lock.
"""

import asyncio
import base64
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httptools
import httpx
import uvloop

from bench.measurements import BenchmarkError, Measurement, percentiles

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a run.

    Attributes:
        seconds: Duration.
        statuses: Number of answers by HTTP status.
        latencies_ms: Latency of each answered request, in milliseconds.
        broken: Requests whose connection broke, or that got no answer.
        answered_at: Time of each answer, in seconds since the epoch, in the order of the latencies.
    """

    seconds: float
    statuses: dict[int, int]
    latencies_ms: list[float] = field(repr=False)
    broken: int = 0
    answered_at: list[float] = field(default_factory=list, repr=False)

    @property
    def answered(self) -> int:
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    @property
    def failed(self) -> int:
        """Answers other than 2xx, and requests without an answer."""
        return self.broken + sum(
            count for status, count in self.statuses.items() if not 200 <= status < 300
        )

    def percentiles(self) -> Measurement:
        """The percentiles of the latencies; NaN without any answer."""
        return percentiles(self.latencies_ms)

    def succeeded(self) -> Self:
        """This run. Raises `BenchmarkError` where a request failed, or none was answered."""
        if self.failed or not self.answered:
            raise BenchmarkError(
                f"{self.failed} requests failed, {self.answered} were answered: {self.statuses}"
            )
        return self


def answering(path: str) -> Callable[[int], bool]:
    """Make a check of a child: whether GET `path` on a port of this machine answers 200."""

    def answers(port: int) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    return answers


def request(
    method: str,
    url: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
) -> bytes:
    """Build a whole HTTP/1.1 request, ready to be written to a socket."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
    if body:
        lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def basic_auth(user: str) -> dict[str, str]:
    """Build the header of Basic authentication, without a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}


def closed_loop(
    url: str,
    requests: Sequence[bytes],
    *,
    connections: int = 32,
    seconds: float = 5.0,
    warm_up_s: float = 1.0,
) -> Load:
    """Send requests round and round, each connection its next when it has its answer.

    Args:
        connections: Number of kept-alive connections.
    """
    return uvloop.run(_closed(url, requests, connections, seconds, warm_up_s))


def open_loop(
    url: str,
    requests: Sequence[bytes],
    *,
    rate: float,
    seconds: float = 10.0,
    connections: int = 64,
) -> Load:
    """Send requests round and round at a fixed rate.

    Args:
        connections: Number of kept-alive connections.
    """
    return uvloop.run(_open(url, requests, rate, seconds, connections))


def in_own_process(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call `function` in a fresh process and wait for its result."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


class _Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way.

    `on_answer(connection, status)` is called at each answer, with status 0 when the connection
    breaks.
    """

    def __init__(self, on_answer: Callable[["_Connection", int], None]) -> None:
        self.on_answer = on_answer
        self.due = 0.0
        self.busy = False
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, payload: bytes, due: float) -> None:
        assert self.transport is not None  # noqa: S101
        self.due, self.busy = due, True
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.busy = False
        self.on_answer(self, self._parser.get_status_code())

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        if self.busy:
            self.busy = False
            self.on_answer(self, 0)

    def close(self) -> None:
        self.busy = False
        if self.transport is not None:
            self.transport.abort()


class _Tally:
    """Counts answers and latencies."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.latencies: list[float] = []
        self.answered_at: list[float] = []
        self.broken = 0

    def add(self, connection: _Connection, status: int) -> None:
        if status:
            self.statuses[status] += 1
            self.latencies.append((time.perf_counter() - connection.due) * 1000)
            self.answered_at.append(time.time())
        else:
            self.broken += 1

    def load(self, seconds: float) -> Load:
        return Load(seconds, dict(self.statuses), self.latencies, self.broken, self.answered_at)


async def _connect(
    url: str, count: int, on_answer: Callable[[_Connection, int], None]
) -> list[_Connection]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    pairs = [
        await loop.create_connection(lambda: _Connection(on_answer), host, port)
        for _ in range(count)
    ]
    return [protocol for _, protocol in pairs]


async def _closed(
    url: str, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> Load:
    loop = asyncio.get_running_loop()
    tally = _Tally()
    sent = 0
    stopped = False

    def next_request(connection: _Connection) -> None:
        nonlocal sent
        if not stopped and connection.transport is not None:
            connection.send(requests[sent % len(requests)], time.perf_counter())
            sent += 1

    def answered(connection: _Connection, status: int) -> None:
        tally.add(connection, status)
        # From the loop, not from the parser's callback: the parser must finish the message first.
        loop.call_soon(next_request, connection)

    open_connections = await _connect(url, connections, answered)
    for connection in open_connections:
        next_request(connection)
    await asyncio.sleep(warm_up_s)
    started = time.perf_counter()
    measured = tally = _Tally()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - started
    stopped, tally = True, _Tally()
    for connection in open_connections:
        connection.close()
    return measured.load(took)


async def _open(
    url: str, requests: Sequence[bytes], rate: float, seconds: float, connections: int
) -> Load:
    tally = _Tally()
    waiting: deque[tuple[bytes, float]] = deque()
    idle: deque[_Connection] = deque()
    finished = asyncio.Event()
    total = int(rate * seconds)

    def answered(connection: _Connection, status: int) -> None:
        tally.add(connection, status)
        if sum(tally.statuses.values()) + tally.broken >= total:
            finished.set()
        elif connection.transport is not None:
            idle.append(connection)
            asyncio.get_running_loop().call_soon(pump)

    def pump() -> None:
        while waiting and idle:
            payload, due = waiting.popleft()
            idle.popleft().send(payload, due)

    open_connections = await _connect(url, connections, answered)
    idle.extend(open_connections)
    started = time.perf_counter()
    for number in range(total):
        due = started + number / rate
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        waiting.append((requests[number % len(requests)], due))
        pump()
    # Requests unanswered ten seconds after the last was due count as broken.
    try:
        await asyncio.wait_for(finished.wait(), 10)
    except TimeoutError:
        tally.broken = total - sum(tally.statuses.values())
    took = time.perf_counter() - started
    for connection in open_connections:
        connection.close()
    return tally.load(took)
