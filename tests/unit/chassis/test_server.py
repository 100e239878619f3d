"""The stop of a server, on real sockets: clients leave, and no request of theirs breaks."""

import http.client
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from fastapi import FastAPI

from slipstream.chassis.server import DrainingServer, server_config
from slipstream.chassis.settings import ServiceSettings
from slipstream_cli.local.processes import free_port
from tests.waiting import until

# Longer than any test takes: where it ends sooner, it ended for the reason that is looked for.
LONG_S = 120.0


@contextmanager
def served(
    drain_s: float, on_stop: Collection[Callable[[], None]] = ()
) -> Iterator[tuple[int, DrainingServer, threading.Thread]]:
    app, port = FastAPI(), free_port()

    @app.get("/")
    async def nothing() -> str:
        return "there"

    settings = ServiceSettings(http={"port": port, "shutdown_grace_s": 1})  # type: ignore[arg-type]
    server = DrainingServer(server_config(app, settings, "ingestion"), drain_s, on_stop)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield port, server, thread
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def asked(client: http.client.HTTPConnection) -> tuple[int, str | None]:
    """The status of an answer, and its header `Connection`."""
    client.request("GET", "/")
    answer = client.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")


def draining(server: DrainingServer) -> bool:
    return (b"connection", b"close") in server.server_state.default_headers


def test_a_client_of_a_server_that_stops_is_answered_and_asked_to_connect_anew() -> None:
    with served(LONG_S) as (port, server, thread):
        known, late = (http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2))
        assert asked(known) == (200, None)
        server.should_exit = True
        until(lambda: draining(server))
        assert asked(known) == (200, "close")
        assert asked(late) == (200, "close")  # its connection was on the way as the stop came
        thread.join(30)  # no client is connected any more
        assert not thread.is_alive()


def test_a_client_that_sends_nothing_is_waited_for_no_longer_than_that() -> None:
    with served(0.2) as (port, server, thread):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert asked(idle) == (200, None)
        began = time.monotonic()
        server.should_exit = True
        thread.join(30)
        assert time.monotonic() - began >= 0.2
        assert idle.sock.recv(1) == b""


def test_without_such_a_time_idle_connections_end_at_once() -> None:
    with served(0.0) as (port, server, thread):
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert asked(idle) == (200, None)
        server.should_exit = True
        thread.join(30)
        assert idle.sock.recv(1) == b""


def test_answers_without_an_end_are_told_of_the_stop_before_the_server_drains() -> None:
    told = threading.Event()
    with served(LONG_S, [told.set]) as (port, server, thread):
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert asked(client) == (200, None)
        assert not told.is_set()
        server.should_exit = True
        assert told.wait(30)
        assert thread.is_alive()
        assert asked(client) == (200, "close")
