"""Several processes of a service on one port, each with an interpreter and an event loop.

The parent opens a listening socket for each process (`SO_REUSEPORT`), and the system spreads
connections over them. The sockets stay open when a process dies, and its successor gets them.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, NoReturn

from fastapi import FastAPI

from slipstream.chassis.ending import Ending
from slipstream.chassis.logging import get_logger
from slipstream.chassis.server import BACKLOG, serve
from slipstream.chassis.settings import ServiceSettings
from slipstream.contracts.services import SERVICES

log = get_logger(__name__)

# Pause before a killed process is started again, and between a process's looks for its parent.
RESTART_PAUSE_S: Final = 1.0


_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


class Sockets(NamedTuple):
    """The sockets of one process: the service's port, and one of its own on this machine."""

    public: socket.socket
    own: socket.socket


def serve_in_processes(
    create_app: Callable[[], FastAPI],
    settings: ServiceSettings,
    name: str,
    count: int,
    load_ahead: Callable[[], None] | None = None,
) -> None:
    """Run `count` processes of a service until SIGTERM or SIGINT, and return when all have ended.

    `app.state.place` is each one's number; the first, 0, leads. A process that is killed is started
    again. When one ends by itself, all end, and this process ends with status 1.

    Args:
        load_ahead: Loads what the processes then share; it must start no thread.
    """
    sockets = _open(settings, name, count)
    siblings = tuple(f"http://127.0.0.1:{each.own.getsockname()[1]}" for each in sockets)
    if load_ahead is not None:
        load_ahead()
    # What is loaded by now is shared memory, as long as no process writes to it.
    gc.collect()
    gc.freeze()
    parent = os.getpid()
    places: dict[int, int] = {}
    stopping = threading.Event()

    def stop(signal_number: int, _frame: object) -> None:
        stopping.set()
        for pid in places:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal_number)

    def start(place: int) -> None:
        # A signal between the fork and the entry would miss the new process.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        if not stopping.is_set():
            pid = os.fork()
            if pid == 0:
                _run(create_app, settings, name, sockets[place], siblings, place, parent)
            places[pid] = place
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    before = {number: signal.signal(number, stop) for number in _STOPS}
    for place in range(count):
        start(place)
    failed = False
    while places:
        pid, status = os.wait()
        # As the first process of a container, it also inherits orphans.
        ended = places.pop(pid, None)
        if ended is None or stopping.is_set():
            continue
        code = os.waitstatus_to_exitcode(status)
        log.error("a process of the service has ended", place=ended, status=code)
        if code >= 0:
            failed = True
            stop(signal.SIGTERM, None)
        elif not stopping.wait(RESTART_PAUSE_S):
            start(ended)
    for number, handler in before.items():
        signal.signal(number, handler)
    for each in sockets:
        each.public.close()
        each.own.close()
    if failed:
        raise SystemExit(1)


def _run(
    create_app: Callable[[], FastAPI],
    settings: ServiceSettings,
    name: str,
    sockets: Sockets,
    siblings: tuple[str, ...],
    place: int,
    parent: int,
) -> NoReturn:
    """Serve in a new process, and end it."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
        app = create_app()
        app.state.place, app.state.siblings = place, siblings
        watch = threading.Thread(target=_watch_parent, args=(app.state.ending, parent), daemon=True)
        watch.start()
        serve(app, settings, name, [*sockets])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        status = 0
    except Exception as error:
        log.critical("a process of the service failed", exc_info=error)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _watch_parent(ending: Ending, parent: int) -> None:
    """Request the end when the parent is gone: nothing else would stop this process.

    It may be gone by now, so that the parent's id comes from the parent.
    """
    while os.getppid() == parent:
        time.sleep(RESTART_PAUSE_S)
    ending.ask("the process that started this one is gone")


def _open(settings: ServiceSettings, name: str, count: int) -> list[Sockets]:
    host, port = settings.http.host, settings.http.port or SERVICES[name].port
    return [
        Sockets(_listening(host, port, shared=True), _listening("127.0.0.1", 0, shared=False))
        for _ in range(count)
    ]


def _listening(host: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened.bind((host, port))
    opened.listen(BACKLOG)
    opened.set_inheritable(True)
    return opened
