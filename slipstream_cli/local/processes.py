"""Child processes that end with this one, and their log files."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
# Exit status of a command that Ctrl-C ended, as in shells.
INTERRUPTED = 130
MAX_LOG_BYTES = 5_000_000


class StartError(Exception):
    """A child did not start; the text says which and why."""


class Child:
    """A server or service as a child process on a port of 127.0.0.1.

    It can be stopped or killed, and started again. The child leads its own process group. A
    terminal's Ctrl-C does not reach it, so its starter decides the order of stopping. On Linux the
    kernel kills it when the *thread* that started it ends. So start it from a thread that lives as
    long as the child should.

    Args:
        answers: Whether the server on a port answers in its protocol.
        grace_s: Seconds that it has to obey `stop_signal`.
        start_s: Seconds that it has to answer after a start.
        user: The user that it runs as, which only root can choose; None: this process's.
        environment: Its environment; None: this process's.
        output: Takes its standard output and error.
    """

    def __init__(
        self,
        name: str,
        port: int,
        command: Sequence[str],
        answers: Callable[[int], bool],
        *,
        grace_s: float,
        start_s: float = 15.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        output: int | IO[bytes] = subprocess.DEVNULL,
    ) -> None:
        self.name, self.port, self.output = name, port, output
        self.address = f"127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._command, self._environment = command, environment
        self._answers, self._grace_s, self._start_s = answers, grace_s, start_s
        self._stop_signal, self._user = stop_signal, user

    def launch(self) -> None:
        """Start it, and return at once."""
        self.process = subprocess.Popen(
            self._command,
            env=None if self._environment is None else dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            process_group=0,
            user=self._user,
            extra_groups=[] if self._user else None,
            preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
        )

    def start(
        self, timeout_s: float | None = None, wanted: Callable[[], bool] = lambda: True
    ) -> "Child":
        """Start it and wait until it answers, or is no longer `wanted`.

        Args:
            timeout_s: Seconds to wait; None: its `start_s`.
            wanted: Asked while waiting; False ends the wait.

        Raises:
            StartError: It can't start, or does not answer in time.
        """
        start_together([self], timeout_s, wanted)
        return self

    def answers(self) -> bool:
        """Ask whether it answers in its protocol now."""
        try:
            return self._answers(self.port)
        except OSError:
            return False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs, or before the first start."""
        return None if self.process is None else self.process.poll()

    def terminate(self) -> None:
        """Ask it to end, and return at once."""
        if self.process is not None and self.alive:
            self.process.send_signal(self._stop_signal)

    def wait_until_it_answers(
        self, since: float, timeout_s: float | None, wanted: Callable[[], bool]
    ) -> None:
        """Wait for a child that was launched at `since` (monotonic seconds), as `start` does."""
        limit_s = self._start_s if timeout_s is None else timeout_s
        while wanted() and not self.answers():
            if not self.alive:
                raise StartError(
                    f"{self.name} ended with status {self.status}"
                    f" while starting on port {self.port}"
                )
            if time.monotonic() > since + limit_s:
                self.kill()
                raise StartError(
                    f"{self.name} does not answer on port {self.port} after {limit_s:g} s"
                )
            time.sleep(0.01)

    def finish(self) -> bool:
        """Wait up to `grace_s` for its end after `terminate`, and kill the rest of its group.

        Returns:
            False when it had to be killed.
        """
        if self.process is None:
            return True
        try:
            self.process.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return not self._grace_s
        self.kill()
        return True

    def stop(self) -> bool:
        """Ask it to end, wait, and return whether it ended by itself."""
        self.terminate()
        return self.finish()

    def kill(self) -> None:
        """Kill it and all processes that it started, and wait for its port, a second at most."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.wait()
        # A process that it has just forked has its port until the kernel has ended that one, too.
        deadline = time.monotonic() + 1.0
        while not is_free(self.port) and time.monotonic() < deadline:
            time.sleep(0.01)


def start_together(
    children: Sequence[Child],
    timeout_s: float | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Start children that answer only once all of them run, such as the nodes of a cluster.

    The arguments and the error are those of `Child.start`.
    """
    for child in children:
        if not is_free(child.port):
            raise StartError(f"{child.name} can't start: port {child.port} is in use")
    since = time.monotonic()
    for child in children:
        child.launch()
    for child in children:
        child.wait_until_it_answers(since, timeout_s, wanted)


class LogFile:
    """A log file of bounded size; `file` is the output of one child at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.file = path.open("ab")

    def bound(self) -> None:
        """Move what was written to a second file once it is too long; the child writes on."""
        if os.fstat(self.file.fileno()).st_size > MAX_LOG_BYTES:
            with suppress(OSError):  # it was deleted, or the disk is full
                shutil.copyfile(self.path, f"{self.path}.1")
            self.file.truncate(0)

    def tail(self) -> str:
        """Return the ends of the last lines, indented."""
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line[-300:]}" for line in lines[-4:])


def is_free(port: int) -> bool:
    """Check that nothing listens on the port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Reserve a port of 127.0.0.1 that nothing listens on, until this process ends.

    A bound socket holds the port. The kernel gives it to no other process that asks for a free
    port, and to no outgoing connection. `SO_REUSEADDR`, set after binding, lets a server listen
    there that sets it too, as servers do.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port: int = holder.getsockname()[1]
    holder.detach()  # the descriptor stays open, without an object that would close it
    return port


def _die_with(parent: int) -> Callable[[], None]:
    # Resolved before the fork: loading a library is not safe in the child.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the line above
            os._exit(1)

    return in_child
