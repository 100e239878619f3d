"""Output of long commands: results, messages, and lines of progress."""

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

import click

from slipstream.contracts.progress import Progress, ProgressStep

# Least seconds between two lines of progress that differ in their figures alone.
_EVERY_S: Final = 5.0


class Terminal:
    """Writes lines: messages and progress to `stream` (standard error), results to `output`.

    A pipe or terminal that is closed is no failure: it must not keep a supervisor from stopping in
    order.
    """

    def __init__(self, stream: TextIO | None = None, output: TextIO | None = None) -> None:
        self._stream, self._output = stream or sys.stderr, output or sys.stdout
        self._said, self._said_at = "", 0.0

    def show(self, text: str) -> None:
        """Write a result, such as a list or an address."""
        with suppress(OSError, ValueError):
            click.echo(text, file=self._output)

    def line(self, text: str) -> None:
        """Write a message."""
        with suppress(OSError, ValueError):
            click.echo(text, file=self._stream)

    def progress(self, text: str) -> None:
        """Write a line of progress, of those that differ in figures alone one in five seconds."""
        now = time.monotonic()
        if text == self._said or (
            _words(text) == _words(self._said) and now < self._said_at + _EVERY_S
        ):
            return
        self._said, self._said_at = text, now
        if text:
            self.line(text)

    def transient(self, text: str) -> None:
        """Write a line of progress on a terminal; elsewhere nothing is written."""
        if self._stream.isatty():
            self.progress(text)

    def bar(self) -> Progress:
        """Make a report of progress: a line for each tenth, in units of the steps' stage."""
        tenth = -1

        def update(step: ProgressStep) -> None:
            nonlocal tenth
            done, total = int(step.done), int(step.total or 0)
            if done * 10 // max(total, 1) > tenth:
                tenth = done * 10 // max(total, 1)
                self.line(f"{done:,} of {total:,} {step.stage}")

        return update

    @contextmanager
    def gauge(self) -> Iterator[Callable[[float, str], None]]:
        """Show a bar with words for the block; off a terminal, a line each time the words change.

        The function that is yielded takes the share done (0 to 1) and the words.
        """
        terminal, said = self._stream.isatty(), ""
        with click.progressbar(
            length=100,
            show_eta=False,
            width=20,
            bar_template="%(info)s |%(bar)s| %(label)s",
            file=self._stream,
            hidden=not terminal,
        ) as shown:

            def update(share: float, words: str) -> None:
                nonlocal said
                if not terminal and words != said:
                    self.line(f"{share:4.0%}  {words}")
                said, shown.pos = words, round(100 * share)
                shown.label = words
                shown.render_progress()

            yield update


def _words(text: str) -> str:
    return re.sub(r"[\d,.]+", "", text)
