"""A local stack that runs as long as a command, and stops on signals."""

import signal
from types import FrameType

import click

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import INTERRUPTED, StartError
from slipstream_cli.local.supervisor import Supervisor
from slipstream_cli.local.terminal import Terminal


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
