"""Runs a local stack: starts it in order, restarts what dies, stops it without losing what was accepted."""

import fcntl
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from services.standalone import servers
from services.standalone.logs import Log, error_in
from services.standalone.plan import SERVICES, Plan
from services.standalone.processes import Child, StartError
from services.standalone.terminal import Terminal

START_LIMIT_S = 180.0
DRAIN_LIMIT_S = 10.0
SERVICE_GRACE_S = 15.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
#: A child that was up for so long and then died is restarted at once, as if it never had before.
STEADY_S = 60.0


@dataclass
class _Watched:
    child: Child
    log: Log
    pause_s: float = FIRST_PAUSE_S
    started: float = 0.0
    restart_at: float | None = None


class Supervisor:
    """A running stack. `start()` returns when all of it is ready; `stop()` when nothing of it is left.

    All children are started by one thread of its own, which lives until they are gone: the kernel ties them to it.
    """

    def __init__(self, plan: Plan, terminal: Terminal) -> None:
        self.plan = plan
        self._terminal = terminal
        self._watched: dict[str, _Watched] = {}
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._killed = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> "Supervisor":
        """Start everything and wait until every service is ready. Raises `StartError`, with nothing left running."""
        self._thread.start()
        while not self._ready.wait(0.2):
            if not self._thread.is_alive():
                raise StartError(self._failure or "stopped while starting")
        return self

    def stop(self) -> None:
        """Ingestion first; then features takes in what was accepted; then the others; the servers last."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def kill(self) -> None:
        """End all children at once. Safe in a signal handler; `stop()` returns soon after."""
        self._killed.set()
        self._stop.set()
        for watched in list(self._watched.values()):
            watched.child.kill()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until the stack has stopped, or the time is over."""
        self._thread.join(timeout_s)

    @property
    def pids(self) -> dict[str, int]:
        """The process of each child that runs."""
        return {name: w.child.process.pid for name, w in self._watched.items() if w.child.process and w.child.alive}

    # ---- everything below runs in the supervisor's thread

    def _run(self) -> None:
        try:
            with _locked(self.plan):
                try:
                    self._start_all()
                    if not self._stop.is_set():
                        self._terminal.progress("")
                        self._ready.set()
                    while not self._stop.wait(0.25):
                        for name in self._watched:
                            self._look_after(name)
                finally:
                    self._stop_all()
        except StartError as error:
            self._failure = str(error)

    def _start_all(self) -> None:
        for name in ("broker", "valkey"):
            if name in self.plan.ports:
                self._terminal.progress(f"starting {name}")
                self._start_server(name)
        for name in SERVICES:
            self._start_service(name)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._stop.wait(0.2):
            waiting = [name for name in SERVICES if not self._watched[name].child.answers()]
            if not waiting:
                return
            self._terminal.progress(f"waiting for {', '.join(waiting)}")
            for name in SERVICES:
                if not self._watched[name].child.alive:
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
        self._watched[name] = _Watched(child, log, started=time.monotonic())
        child.start()

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
        self._watched[name] = _Watched(child, log, started=time.monotonic())
        child.launch()

    def _log(self, name: str) -> Log:
        def show(complaint: str) -> None:
            if not self._stop.is_set():
                self._terminal.line(f"{name}: {complaint}")

        return Log(self.plan.directory / "logs" / f"{name}.log", show)

    def _look_after(self, name: str) -> None:
        watched = self._watched[name]
        now = time.monotonic()
        if watched.restart_at is None:
            if watched.child.alive:
                return
            if now - watched.started > STEADY_S:
                watched.pause_s = FIRST_PAUSE_S
            watched.restart_at = now + watched.pause_s
            ending = _ending(watched.child.status)
            self._terminal.line(f"{name} died ({ending}); it starts again in {watched.pause_s:g} s; see {watched.log.path}")
            watched.pause_s = min(watched.pause_s * 2, LONGEST_PAUSE_S)
        elif now >= watched.restart_at:
            watched.restart_at = None
            watched.started = now
            watched.child.kill()  # what it may have started and left behind
            try:
                if name in SERVICES:
                    watched.child.launch()
                    return
                watched.child.start()
                if name == "broker":
                    self._make_topics_again()
            except StartError as error:
                self._terminal.line(str(error))

    def _make_topics_again(self) -> None:
        """A broker that kept nothing has no topics, and the services made theirs when they started."""
        from slipstream.broker.kafka import BrokerUnavailableError, ensure_topics
        from slipstream.chassis.settings import KafkaSettings

        settings = KafkaSettings(bootstrap_servers=self._watched["broker"].child.address)
        try:
            ensure_topics(settings, self.plan.environment.get("SLIPSTREAM_NAMESPACE") or "slipstream")
        except BrokerUnavailableError as error:
            self._terminal.line(str(error))

    def _stop_all(self) -> None:
        if not self._killed.is_set() and self._ready.is_set():
            self._terminal.progress("stopping: ingestion")
            # Whoever has been answered "accepted" finds it in the stores: no new events, then the consumer catches up.
            self._end(["ingestion"])
            self._drain()
        self._terminal.progress("stopping: services" if self._watched else "")
        self._end([name for name in SERVICES if name in self._watched])
        for name in ("valkey", "broker"):
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
        """Wait for features to take in what was accepted: the embedded broker forgets it. Gives up when nothing moves."""
        least = remaining = None
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while self._watched["features"].child.alive and time.monotonic() < deadline and not self._killed.is_set():
            with suppress(OSError, HTTPException, ValueError):
                code, status = _get(self.plan.ports["features"], "/v1/status", self._authorization())
                if code == 200 and status.get("caught_up"):
                    return
                remaining = int(status["lag"]) if code == 200 else remaining
            if remaining is not None and (least is None or remaining < least):
                least, deadline = remaining, time.monotonic() + DRAIN_LIMIT_S
            self._terminal.progress(
                f"stopping: features takes in {remaining:,} more records" if remaining else "stopping: features writes the lake"
            )
            time.sleep(0.1)
        if remaining and "broker" in self._watched:
            self._terminal.line(f"about {remaining:,} accepted records were not taken in, and are gone with the embedded broker")

    def _authorization(self) -> dict[str, str]:
        token = self.plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _obituary(self, name: str) -> str:
        watched = self._watched[name]
        time.sleep(0.1)  # its last words may still be on their way
        lines = watched.log.tail()
        why = [complaint for complaint in map(error_in, lines) if complaint] or [line[:300] for line in lines]
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
        ", ".join(f"{name}: {verdict}" for name, verdict in body.get("checks", {}).items() if verdict != "ok") or f"HTTP {status}"
    )


def _get(port: int, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    # The standard library's client: building one of httpx costs 30 ms, much when five services are asked several times a second.
    connection = HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def running_stack(directory: Path) -> dict[str, str]:
    """The `Plan.description` of the stack that runs on this folder; empty when none does."""
    try:
        with (directory / "lock").open("r") as file:
            if _try_lock(file):
                return {}
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


@contextmanager
def _locked(plan: Plan) -> Iterator[None]:
    """Hold the data folder: a second stack on it is refused while this one runs, and only then."""
    plan.directory.mkdir(parents=True, exist_ok=True)
    with (plan.directory / "lock").open("a+") as file:
        if not _try_lock(file):
            raise StartError(f"Slipstream already runs on {plan.directory}; stop it, or give another folder with --data-dir")
        file.truncate(0)
        json.dump(plan.description, file)
        file.flush()
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
