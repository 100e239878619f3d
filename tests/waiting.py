"""What a test waits for: conditions, servers in a thread, and a clock that only the test moves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn

T = TypeVar("T")


class Clock:
    """A clock in seconds; a test sets `now`."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def until(
    found: Callable[[], T],
    complaint: str | Callable[[], object] = "it took too long",
    limit_s: float = 150.0,
) -> T:
    """What `found` returns once that is true; fails with the complaint after `limit_s` seconds."""
    return eventually(found, bool, complaint, limit_s)


def eventually(
    read: Callable[[], T],
    wanted: Callable[[T], bool],
    complaint: str | Callable[[], object] = "",
    limit_s: float = 150.0,
) -> T:
    """What `read` returns once it is as wanted; fails, with the last value, after `limit_s` s."""
    deadline = time.monotonic() + limit_s
    while not wanted(value := read()):
        assert time.monotonic() < deadline, (
            complaint() if callable(complaint) else complaint or f"still {value!r}"
        )
        time.sleep(0.01)
    return value


@contextmanager
def running(server: uvicorn.Server) -> Iterator[threading.Thread]:
    """The server's thread, until the block ends and the server has stopped."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive(), "the server did not start")
        yield thread
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
