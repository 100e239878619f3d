"""A supervised stack for the length of a command, with the signals that a person or a container
ends it by.
"""

import signal
from types import FrameType

import click

from slipstream_cli.local.plan import Plan
from slipstream_cli.local.processes import INTERRUPTED, StartError
from slipstream_cli.local.supervisor import Supervisor
from slipstream_cli.local.terminal import Terminal


class ForegroundStack:
    """A supervised stack around a command: the first SIGINT or SIGTERM stops it in order, a second
    one at once.
    """

    def __init__(self, plan: Plan, terminal: Terminal) -> None:
        self._supervisor = Supervisor(plan, terminal)
        self._signals = 0

    def __enter__(self) -> "ForegroundStack":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # `nohup`
                signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._signals += 1  # it stops already: a signal from now on is the second
        self._supervisor.stop()
        if isinstance(error, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED)

    def start(self) -> None:
        try:
            self._supervisor.start()
        except StartError as error:
            raise click.ClickException(str(error)) from error

    def wait(self) -> None:
        """Until a signal; a stop that was asked for is no failure."""
        try:
            self._supervisor.wait()
        except KeyboardInterrupt:
            self._supervisor.stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._signals += 1
        if self._signals == 1:
            raise KeyboardInterrupt
        self._supervisor.kill()
