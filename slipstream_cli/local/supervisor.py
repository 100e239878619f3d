"""Runs a local stack: starts it in order, restarts what dies, stops it without losing what was
accepted.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

from slipstream.contracts.services import SERVICES
from slipstream_cli.local import servers
from slipstream_cli.local.data_folder import data_folder_lock
from slipstream_cli.local.logs import Log, error_in
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import Child, StartError
from slipstream_cli.local.restarts import Restarts
from slipstream_cli.local.terminal import Terminal

START_LIMIT_S = 180.0
DRAIN_LIMIT_S = 10.0
SERVICE_GRACE_S = 15.0
SERVERS = ("broker", "valkey")


@dataclass
class _SupervisedChild:
    child: Child
    log: Log
    restarts: Restarts = field(default_factory=Restarts)
    restart_at: float | None = None
    # it was started again, and what has to follow (the broker's topics) has not happened yet
    coming_up: bool = False


class Supervisor:
    """A running stack. `start()` returns when all of it is ready; `stop()` when nothing of it is
    left.

    All children are started by one thread of its own, which lives until they are gone: the kernel
    ties them to it.
    """

    def __init__(self, plan: Plan, terminal: Terminal) -> None:
        self.plan = plan
        self._terminal = terminal
        self._watched: dict[str, _SupervisedChild] = {}
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._killed = threading.Event()
        self._ended = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> "Supervisor":
        """Start everything and wait until every service is ready. Raises `StartError`, with nothing
        left running.
        """
        self._thread.start()
        while not self._ready.wait(0.2):
            if self._ended.is_set():
                raise StartError(self._failure or "stopped while starting")
        return self

    def stop(self) -> None:
        """Ingestion first; then features takes in what was accepted; then the others; the servers
        last. Returns when all of them are gone.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._ended.wait()

    def kill(self) -> None:
        """End all children at once. Safe in a signal handler; `stop()` returns soon after."""
        self._killed.set()
        self._stop.set()
        for watched in list(self._watched.values()):
            watched.child.kill()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until the stack has stopped, or the time is over.

        Not by joining the thread: when a signal handler raises in `Thread.join`, Python 3.11 takes
        the thread for ended, and whoever joins it next goes on at once, with everything still
        running.
        """
        self._ended.wait(timeout_s)

    # ---- everything below runs in the supervisor's thread

    def _run(self) -> None:
        try:
            with data_folder_lock(self.plan):
                try:
                    self._start_all()
                    if not self._stop.is_set():
                        self._terminal.progress("")
                        self._ready.set()
                    while not self._stop.wait(0.1):
                        for name in self._watched:
                            self._look_after(name)
                finally:
                    self._stop_all()
        except StartError as error:
            self._failure = str(error)
        finally:
            self._ended.set()

    def _start_all(self) -> None:
        for name in SERVERS:
            if name in self.plan.ports and not self._stop.is_set():
                self._start_server(name)
        if self._stop.is_set():
            return
        for name in SERVICES:
            self._start_service(name)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._stop.wait(0.2):
            waiting = [name for name in SERVICES if not self._watched[name].child.answers()]
            if not waiting:
                return
            self._terminal.progress(f"waiting for {', '.join(waiting)}")
            for name in self._watched:
                if name in SERVERS:
                    self._look_after(name)
                elif not self._watched[name].child.alive:
                    raise StartError(self._obituary(name))
            if time.monotonic() > deadline:
                raise StartError(f"not ready after {START_LIMIT_S:g} s: {self._unready(waiting)}")

    def _start_server(self, name: str) -> None:
        log = self._log(name)
        port = self.plan.ports[name]
        child = (
            servers.broker(port, output=log.fd)
            if name == "broker"
            else servers.valkey(port, self.plan.directory / "valkey", output=log.fd)
        )
        self._watched[name] = _SupervisedChild(child, log)
        self._terminal.progress(f"starting {name}")
        # Valkey reads its file first, which takes as long as the file is large.
        child.start(START_LIMIT_S, wanted=lambda: not self._stop.is_set())

    def _start_service(self, name: str) -> None:
        log = self._log(name)
        child = Child(
            name,
            self.plan.ports[name],
            [sys.executable, "-m", "services", name],
            is_ready,
            environment=self.plan.service_environment(name),
            grace_s=SERVICE_GRACE_S,
            output=log.fd,
        )
        self._watched[name] = _SupervisedChild(child, log)
        child.launch()

    def _log(self, name: str) -> Log:
        def show(complaint: str) -> None:
            if not self._stop.is_set():
                self._terminal.line(f"{name}: {complaint}")

        return Log(self.plan.directory / "logs" / f"{name}.log", show)

    def _look_after(self, name: str) -> None:
        """Start it again when it has died, after a pause; returns at once, whatever it does."""
        watched, now = self._watched[name], time.monotonic()
        if watched.restart_at is not None:
            if now >= watched.restart_at:
                watched.restart_at = None
                watched.child.kill()  # what it may have started and left behind
                watched.child.launch()
                watched.coming_up = True
        elif not watched.child.alive:
            pause_s = watched.restarts.pause_after(now)
            watched.restart_at, watched.coming_up = now + pause_s, False
            ending = _ending(watched.child.status)
            self._terminal.line(
                f"{name} died ({ending}); it starts again in {pause_s:g} s; see {watched.log.path}"
            )
        elif name == "broker" and watched.coming_up and watched.child.answers():
            watched.coming_up = False
            self._make_topics_again()

    def _make_topics_again(self) -> None:
        """A broker that kept nothing has no topics, and the services made theirs when they started."""
        from slipstream.broker.kafka import BrokerUnavailableError
        from slipstream.broker.topics import ensure_topics
        from slipstream.chassis.settings import KafkaSettings

        settings = KafkaSettings(bootstrap_servers=self._watched["broker"].child.address)
        try:
            ensure_topics(
                settings, self.plan.environment.get("SLIPSTREAM_NAMESPACE") or "slipstream"
            )
        except BrokerUnavailableError as error:
            self._terminal.line(str(error))

    def _stop_all(self) -> None:
        if not self._killed.is_set() and self._ready.is_set():
            self._terminal.progress("stopping: ingestion")
            # Whoever has been answered "accepted" finds it in the stores: no new events, then the
            # consumer catches up.
            self._end(["ingestion"])
            self._drain()
        self._terminal.progress("stopping: services" if self._watched else "")
        self._end([name for name in SERVICES if name in self._watched])
        for name in reversed(SERVERS):
            self._end([name])
        for watched in self._watched.values():
            watched.log.close()
        self._terminal.progress("")

    def _end(self, names: list[str]) -> None:
        children = [self._watched[name].child for name in names if name in self._watched]
        for child in children:
            child.terminate()
        for child in children:
            if self._killed.is_set():
                child.kill()
            elif not child.finish():
                self._terminal.line(f"{child.name} did not stop in time and was killed")

    def _drain(self) -> None:
        """Wait for features to take in what was accepted: the embedded broker forgets it. Gives up
        when nothing moves.
        """
        least = remaining = None
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while (
            self._watched["features"].child.alive
            and time.monotonic() < deadline
            and not self._killed.is_set()
        ):
            with suppress(OSError, HTTPException, ValueError):
                code, status = _get(
                    self.plan.ports["features"], "/v1/status", self._authorization()
                )
                if code == 200 and status.get("caught_up"):
                    return
                remaining = int(status["lag"]) if code == 200 else remaining
            if remaining is not None and (least is None or remaining < least):
                least, deadline = remaining, time.monotonic() + DRAIN_LIMIT_S
            self._terminal.progress(
                f"stopping: features takes in {remaining:,} more records"
                if remaining
                else "stopping: features writes the lake"
            )
            time.sleep(0.1)
        if remaining and "broker" in self._watched:
            self._terminal.line(
                f"about {remaining:,} accepted records were not taken in, and are gone with the embedded broker"
            )

    def _authorization(self) -> dict[str, str]:
        token = self.plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _obituary(self, name: str) -> str:
        watched = self._watched[name]
        time.sleep(0.1)  # its last words may still be on their way
        lines = watched.log.tail()
        why = [complaint for complaint in map(error_in, lines) if complaint] or [
            line[:300] for line in lines
        ]
        last = "\n".join(f"  {line}" for line in why[-8:])
        return f"{name} died while starting ({_ending(watched.child.status)}); all in {watched.log.path}:\n{last}"

    def _unready(self, names: list[str]) -> str:
        return "; ".join(f"{name}: {why_unready(self.plan.ports[name])}" for name in names)


def is_ready(port: int) -> bool:
    """Whether the service on this port says that all of its dependencies answer."""
    return why_unready(port) == ""


def why_unready(port: int) -> str:
    """What the service on this port lacks, in words; empty when it is ready."""
    try:
        status, body = _get(port, "/health/ready", {})
    except (OSError, HTTPException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
    if status == 200:
        return ""
    return (
        ", ".join(
            f"{name}: {verdict}"
            for name, verdict in body.get("checks", {}).items()
            if verdict != "ok"
        )
        or f"HTTP {status}"
    )


def _get(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    # The standard library's client: building one of httpx costs 30 ms, much when five services are
    # asked several times a second.
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
