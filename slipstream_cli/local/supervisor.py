"""The supervisor of a local stack: ordered start, restarts, and a stop that drains the stream.

A command runs it as a `ForegroundStack`, which stops on signals.
"""

import math
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.client import HTTPException
from types import FrameType

import click

from slipstream.contracts.services import SERVICES
from slipstream_cli.dead_letters import KEPT_FILE
from slipstream_cli.local import servers
from slipstream_cli.local.data_folder import data_folder_lock, note, restore_runs
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import INTERRUPTED, Child, LogFile, StartError
from slipstream_cli.local.readiness import get_json, is_ready, why_unready
from slipstream_cli.local.terminal import Terminal

# A dead child is restarted after a pause, and given up after so many restarts in a row.
PAUSE_S, RESTARTS, WITHIN_S = 1.0, 10, 120.0
# The file in a data folder that is there while the embedded broker may have records that neither
# the stores nor `KEPT_FILE` have.
UNSAVED_FILE = "unsaved-records"
START_LIMIT_S = 180.0
DRAIN_LIMIT_S = 10.0
SERVICE_GRACE_S = 15.0
SERVERS = ("broker", "valkey")
# They have tables, which a restore replaces.
RESTORED = ("training", "monitoring")


@dataclass
class _SupervisedChild:
    child: Child
    log: LogFile
    # Times of its last deaths, and of its next start, in seconds of a monotonic clock.
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS))
    restart_at: float | None = None
    # It was restarted, and its topics are not made yet (the broker's).
    coming_up: bool = False


class Supervisor:
    """A local stack that is started, watched and stopped.

    All children are started by one thread, which lives until they have ended: the kernel kills a
    child when the thread that started it ends.
    """

    def __init__(self, plan: Plan, terminal: Terminal) -> None:
        self.plan = plan
        self._terminal = terminal
        self._children: dict[str, _SupervisedChild] = {}
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._killed = threading.Event()
        self._ended = threading.Event()
        self._failure: str | None = None
        # Whether the broker has the dead letters of earlier runs. Only an embedded one forgets any.
        self._has_all_letters = False
        self._unsaved = plan.directory / UNSAVED_FILE
        # Whether ingestion has been ready, so that events may have been accepted.
        self._accepting = False
        self._restore_runs = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    @property
    def was_ready(self) -> bool:
        """Whether all services have been ready."""
        return self._ready.is_set()

    def start(self) -> "Supervisor":
        """Start everything, and wait until all services are ready.

        Raises:
            StartError: It did not start; nothing is left running.
        """
        self._thread.start()
        while not self._ready.wait(0.2):
            if self._ended.is_set():
                raise StartError(self._failure or "stopped while starting")
        return self

    def stop(self) -> None:
        """Stop everything in order, and return when all processes have ended.

        Ingestion stops first. Then features applies the accepted events, then the services stop,
        and the servers last.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._ended.wait()

    def kill(self) -> None:
        """Kill all children. Safe in a signal handler; `stop()` returns soon after."""
        self._killed.set()
        self._stop.set()
        for supervised in list(self._children.values()):
            supervised.child.kill()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the stack has stopped, or for `timeout_s` seconds."""
        # Not by joining the thread: when a signal handler raises in `Thread.join`, Python 3.11
        # takes the thread for ended. The next join then returns while everything still runs.
        self._ended.wait(timeout_s)

    # Everything below runs in the supervisor's thread.

    def _run(self) -> None:
        try:
            with data_folder_lock(self.plan):
                note(self.plan.directory)
                try:
                    self._start_all()
                    if not self._stop.is_set():
                        self._terminal.progress("")
                        self._ready.set()
                    while not self._stop.wait(0.1):
                        self._follow_restore()
                        for name, supervised in self._children.items():
                            supervised.log.bound()
                            if not (self._restore_runs and name in RESTORED):
                                self._restart_if_dead(name)
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
        if "broker" in self._children:
            self._say_what_was_not_kept()
            self._unsaved.unlink(missing_ok=True)
            self._restore_letters()
        for name in SERVICES:
            self._start_service(name)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._stop.wait(0.2):
            waiting = [name for name in SERVICES if not self._children[name].child.answers()]
            if "ingestion" not in waiting and not self._accepting:
                self._accepting = True
                if "broker" in self._children:
                    self._unsaved.touch(mode=0o600)
            if not waiting:
                return
            self._terminal.progress(f"waiting for {', '.join(waiting)}")
            for name in self._children:
                if name in SERVERS:
                    self._restart_if_dead(name)
                elif not self._children[name].child.alive:
                    raise StartError(self._obituary(name))
            if time.monotonic() > deadline:
                raise StartError(f"not ready after {START_LIMIT_S:g} s: {self._unready(waiting)}")

    def _start_server(self, name: str) -> None:
        log = self._log(name)
        port = self.plan.ports[name]
        child = (
            servers.broker(port, output=log.file)
            if name == "broker"
            else servers.valkey(port, self.plan.directory / "valkey", output=log.file)
        )
        self._children[name] = _SupervisedChild(child, log)
        self._terminal.progress(f"starting {name}")
        # Valkey first reads its file, which may be large.
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
            output=log.file,
        )
        self._children[name] = _SupervisedChild(child, log)
        child.launch()

    def _log(self, name: str) -> LogFile:
        return LogFile(self.plan.directory / "logs" / f"{name}.log")

    def _restart_if_dead(self, name: str) -> None:
        """Restart a child that has died, after a pause. Never blocks."""
        supervised, now = self._children[name], time.monotonic()
        if supervised.restart_at is not None:
            if now >= supervised.restart_at:
                supervised.restart_at = None
                supervised.child.kill()  # processes that it left behind
                supervised.child.launch()
                supervised.coming_up = True
        elif not supervised.child.alive:
            death = f"{name} died ({_ending(supervised.child.status)})"
            deaths, supervised.coming_up = supervised.deaths, False
            if len(deaths) == RESTARTS and now - deaths[0] < WITHIN_S:
                supervised.restart_at = math.inf
                after = f"after {RESTARTS} restarts in a row, and stays down until the next start"
            else:
                supervised.restart_at = now + PAUSE_S
                after = f"and starts again in {PAUSE_S:g} s"
            deaths.append(now)
            self._terminal.line(f"{death} {after}; see {supervised.log.path}")
        elif name == "broker" and supervised.coming_up and supervised.child.answers():
            supervised.coming_up = False
            self._make_topics_again()

    def _follow_restore(self) -> None:
        """Stop the services that a restore must not meet, and start them after it."""
        if restore_runs(self.plan.directory) is self._restore_runs:
            return
        self._restore_runs = not self._restore_runs
        names = " and ".join(RESTORED)
        if self._restore_runs:
            self._terminal.line(f"a restore begins: {names} stop until it has ended")
            self._end([*RESTORED])
        else:
            self._terminal.line(f"the restore has ended: {names} start again")
            for name in RESTORED:
                self._children[name].restart_at = time.monotonic()

    def _say_what_was_not_kept(self) -> None:
        if self._unsaved.exists():
            self._terminal.line(
                "the embedded broker ended before a clean stop: the newest accepted events and dead"
                " letters may be lost. Send these events again with their messageId, or import the"
                " file again: repeats count once"
            )

    def _make_topics_again(self) -> None:
        """Make the topics on a restarted broker, which has kept nothing.

        Services make them only when they start.
        """
        from slipstream.broker.kafka import BrokerUnavailableError
        from slipstream.broker.topics import ensure_topics

        try:
            ensure_topics(self.plan.kafka, self.plan.namespace)
        except BrokerUnavailableError:
            self._children["broker"].coming_up = True  # it is asked again
        else:
            self._say_what_was_not_kept()
            self._restore_letters()

    def _restore_letters(self) -> None:
        self._has_all_letters = True
        if not (self.plan.directory / KEPT_FILE).exists():
            return  # without a second of imports
        from slipstream.broker.kafka import BrokerUnavailableError
        from slipstream_cli.dead_letters.letters import restore_letters

        try:
            restore_letters(self.plan.kafka, self.plan.namespace, self.plan.directory)
        except (BrokerUnavailableError, OSError, ValueError) as error:
            self._has_all_letters = False
            self._terminal.line(f"dead letters of earlier runs were not restored: {error}")

    def _keep_letters(self) -> bool:
        """Write the dead letters to the data folder, since the broker forgets them."""
        from slipstream.broker.kafka import BrokerUnavailableError
        from slipstream_cli.dead_letters.letters import MOST_KEPT, keep_letters

        self._terminal.progress("stopping: keeping dead letters")
        try:
            if not keep_letters(self.plan.kafka, self.plan.namespace, self.plan.directory):
                self._terminal.line(f"kept the newest {MOST_KEPT:,} dead letters; others are gone")
        except (BrokerUnavailableError, OSError) as error:
            self._terminal.line(f"dead letters of this run could not be kept: {error}")
            return False
        return True

    def _stop_all(self) -> None:
        in_order, drained = self._accepting and not self._killed.is_set(), False
        if in_order:
            self._terminal.progress("stopping: ingestion")
            # Accepted events must be in the stores before the broker forgets them: ingestion takes
            # no more, then features catches up.
            self._end(["ingestion"])
            drained = self._drain()
        self._terminal.progress("stopping: services" if self._children else "")
        self._end([name for name in SERVICES if name in self._children])
        if in_order and self._has_all_letters and self._keep_letters() and drained:
            self._unsaved.unlink(missing_ok=True)
        for name in reversed(SERVERS):
            self._end([name])
        for supervised in self._children.values():
            supervised.log.file.close()
        self._terminal.progress("")

    def _end(self, names: list[str]) -> None:
        children = [self._children[name].child for name in names if name in self._children]
        for child in children:
            child.terminate()
        for child in children:
            if self._killed.is_set():
                child.kill()
            elif not child.finish():
                self._terminal.line(f"{child.name} did not stop in time and was killed")

    def _drain(self) -> bool:
        """Wait until features has applied all accepted events, and return whether it has."""
        self._terminal.progress("stopping: waiting for features to apply what was accepted")
        token = self.plan.credential("supervisor")()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        standing = "it is not running"
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while self._children["features"].child.alive and time.monotonic() < deadline:
            if self._killed.is_set():
                return False
            try:
                code, status = get_json(self.plan.ports["features"], "/v1/status", headers)
                if code == 200 and status["caught_up"]:
                    return True
                standing = f"{status['lag']:,} records to go" if code == 200 else f"HTTP {code}"
            except (OSError, HTTPException, ValueError) as error:
                standing = type(error).__name__
            time.sleep(0.1)
        self._terminal.line(f"features did not catch up within {DRAIN_LIMIT_S:g} s: {standing}")
        return False

    def _obituary(self, name: str) -> str:
        supervised = self._children[name]
        ending, last = _ending(supervised.child.status), supervised.log.tail()
        return f"{name} died while starting ({ending}); all in {supervised.log.path}:\n{last}"

    def _unready(self, names: list[str]) -> str:
        return "; ".join(f"{name}: {why_unready(self.plan.ports[name])}" for name in names)


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"


class ForegroundStack:
    """A local stack for the block of a command.

    The first SIGINT, SIGTERM or SIGHUP stops it in order, a second one at once.

    Args:
        terminal: Where it tells of itself.
        endless: Whether the command has nothing to do but to run the stack. Then a signal is no
            failure once the stack is ready.
    """

    def __init__(self, plan: Plan, terminal: Terminal, *, endless: bool = False) -> None:
        self._supervisor = Supervisor(plan, terminal)
        self._endless = endless
        self._signals = 0

    def __enter__(self) -> "ForegroundStack":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        self._signals += 1  # it is stopping: the next signal counts as the second
        self._supervisor.stop()
        if not isinstance(error, KeyboardInterrupt):
            return False
        if self._endless and self._supervisor.was_ready:
            return True
        raise SystemExit(INTERRUPTED)

    def start(self) -> None:
        """Start the stack, and wait until it is ready; a failure ends the command."""
        try:
            self._supervisor.start()
        except StartError as error:
            raise click.ClickException(str(error)) from error

    def wait(self) -> None:
        """Wait for a signal, and stop the stack; that is no failure of the command."""
        try:
            self._supervisor.wait()
        except KeyboardInterrupt:
            self._supervisor.stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1
        if self._signals == 1:
            raise KeyboardInterrupt
        self._supervisor.kill()
