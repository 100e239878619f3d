"""The supervisor of a local stack: ordered start, restarts, and a stop that loses no event.

A command runs it as a `ForegroundStack`, which stops on signals.
"""

import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.client import HTTPException
from types import FrameType

import click

from slipstream.chassis.pauses import pause_after
from slipstream.contracts.services import SERVICES
from slipstream_cli.dead_letters import KEPT_FILE
from slipstream_cli.local import servers
from slipstream_cli.local.data_folder import data_folder_lock, note, restore_runs
from slipstream_cli.local.plan import API_TOKEN, TOKEN_SECRET, Plan
from slipstream_cli.local.processes import INTERRUPTED, Child, Log, StartError, error_in
from slipstream_cli.local.readiness import RecordsAtRisk, is_ready, why_unready
from slipstream_cli.local.terminal import Terminal

# Number of deaths within `WINDOW_S` after which the shortest pause follows; each further death
# doubles it.
AT_ONCE, WINDOW_S = 5, 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 15.0


class Restarts:
    """The recent deaths of one child.

    There is no last attempt: the cause may pass, and pauses keep the attempts cheap.
    """

    def __init__(self) -> None:
        self._deaths: deque[float] = deque(maxlen=100)

    def pause_after(self, now: float) -> float:
        """Record a death, and return the seconds to wait before the next start.

        `now` is in seconds of a monotonic clock.
        """
        self._deaths.append(now)
        while self._deaths[0] <= now - WINDOW_S:
            self._deaths.popleft()
        failures = max(0, len(self._deaths) - AT_ONCE) + 1
        return pause_after(failures, FIRST_PAUSE_S, LONGEST_PAUSE_S)


START_LIMIT_S = 180.0
DRAIN_LIMIT_S = 10.0
SERVICE_GRACE_S = 15.0
SERVERS = ("broker", "valkey")
# They have tables, which a restore replaces.
RESTORED = ("training", "monitoring")


@dataclass
class _SupervisedChild:
    child: Child
    log: Log
    restarts: Restarts = field(default_factory=Restarts)
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
        self._at_risk = RecordsAtRisk(plan)
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
                        if "broker" in self._children:
                            threading.Thread(
                                target=self._at_risk.watch, args=(self._stop,), daemon=True
                            ).start()
                    while not self._stop.wait(0.1):
                        self._follow_restore()
                        for name in self._children:
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
            self._restore_letters()
        for name in SERVICES:
            self._start_service(name)
        deadline = time.monotonic() + START_LIMIT_S
        while not self._stop.wait(0.2):
            waiting = [name for name in SERVICES if not self._children[name].child.answers()]
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
            servers.broker(port, output=log.fd)
            if name == "broker"
            else servers.valkey(port, self.plan.directory / "valkey", output=log.fd)
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
            output=log.fd,
        )
        self._children[name] = _SupervisedChild(child, log)
        child.launch()

    def _log(self, name: str) -> Log:
        def show(error: str) -> None:
            if not self._stop.is_set():
                self._terminal.line(f"{name}: {error}")

        return Log(self.plan.directory / "logs" / f"{name}.log", show)

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
            pause_s = supervised.restarts.pause_after(now)
            supervised.restart_at, supervised.coming_up = now + pause_s, False
            told = f"{name} died ({_ending(supervised.child.status)})"
            if name == "broker" and self._ready.is_set():
                told += f" with its records: {self._loss()}"
            self._terminal.line(
                f"{told}; it starts again in {pause_s:g} s; see {supervised.log.path}"
            )
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

    def _loss(self) -> str:
        most = self._at_risk.at_most()
        if most == 0:
            return "no accepted event is lost"
        number = "an unknown number of" if most is None else f"at most {most:,}"
        return (
            f"{number} accepted events may be lost. Send the latest again with their messageId, or"
            " import the file again: repeats count once"
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

    def _keep_letters(self) -> None:
        """Write the dead letters to the data folder, since the broker forgets them."""
        from slipstream.broker.kafka import BrokerUnavailableError
        from slipstream_cli.dead_letters.letters import MOST_KEPT, keep_letters

        self._terminal.progress("stopping: keeping dead letters")
        try:
            if not keep_letters(self.plan.kafka, self.plan.namespace, self.plan.directory):
                self._terminal.line(f"kept the newest {MOST_KEPT:,} dead letters; others are gone")
        except (BrokerUnavailableError, OSError) as error:
            self._terminal.line(f"dead letters of this run could not be kept: {error}")

    def _stop_all(self) -> None:
        if not self._killed.is_set() and self._ready.is_set():
            self._terminal.progress("stopping: ingestion")
            # Accepted events must be in the stores before the broker forgets them: ingestion takes
            # no more, then features catches up.
            self._end(["ingestion"])
            self._drain()
        self._terminal.progress("stopping: services" if self._children else "")
        self._end([name for name in SERVICES if name in self._children])
        if not self._killed.is_set() and self._ready.is_set() and self._has_all_letters:
            self._keep_letters()
        for name in reversed(SERVERS):
            self._end([name])
        for supervised in self._children.values():
            supervised.log.close()
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

    def _drain(self) -> None:
        """Wait until features has applied all accepted events, or makes no progress."""
        least = remaining = None
        failure = "it is not running"
        deadline = time.monotonic() + DRAIN_LIMIT_S
        while (
            self._children["features"].child.alive
            and time.monotonic() < deadline
            and not self._killed.is_set()
        ):
            try:
                code, status = self._at_risk.status()
                if code == 200 and status.get("caught_up"):
                    return
                remaining = int(status["lag"]) if code == 200 else remaining
                failure = f"HTTP {code}"
            except (OSError, HTTPException, ValueError) as error:
                failure = type(error).__name__
            if remaining is not None and (least is None or remaining < least):
                least, deadline = remaining, time.monotonic() + DRAIN_LIMIT_S
            self._terminal.progress(
                f"stopping: waiting for features to apply {remaining:,} records"
                if remaining
                else "stopping: waiting for features to write to the lake"
            )
            time.sleep(0.1)
        if self._killed.is_set() or "broker" not in self._children:
            return
        if remaining is None:
            refused = failure in ("HTTP 401", "HTTP 403", "HTTP 429")
            self._terminal.line(
                f"features did not say what it still has to apply ({failure}): accepted"
                " events may be lost with the embedded broker"
                + (f"; set {API_TOKEN} or {TOKEN_SECRET}" if refused else "")
            )
        elif remaining:
            self._terminal.line(
                f"about {remaining:,} accepted records were not applied,"
                " and are lost with the embedded broker"
            )

    def _obituary(self, name: str) -> str:
        supervised = self._children[name]
        time.sleep(0.1)  # the log's thread may still read its last lines
        lines = supervised.log.tail()
        errors = list(filter(None, map(error_in, lines))) or [line[:300] for line in lines]
        last = "\n".join(f"  {line}" for line in errors[-8:])
        ending = _ending(supervised.child.status)
        return f"{name} died while starting ({ending}); all in {supervised.log.path}:\n{last}"

    def _unready(self, names: list[str]) -> str:
        return "; ".join(f"{name}: {why_unready(self.plan.ports[name])}" for name in names)


def _ending(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"


class ForegroundStack:
    """A local stack for the block of a command.

    The first SIGINT, SIGTERM or SIGHUP stops it in order, a second one at once.

    Args:
        plan: The stack.
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
