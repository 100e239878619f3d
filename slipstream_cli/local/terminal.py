"""What long commands say while they work: a line that rewrites itself on a terminal, plain lines
elsewhere.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

from slipstream.contracts.progress import Progress, ProgressStep


class Terminal:
    """Writes lines, and one line of progress below them. Safe to use from several threads.

    What a command says of its work goes to `stream` (standard error); what it was asked for, to
    `output` (standard output).
    """

    def __init__(self, stream: TextIO | None = None, output: TextIO | None = None) -> None:
        self._stream, self._output = stream or sys.stderr, output or sys.stdout
        self._tty = self._stream.isatty()
        self._progress = ""
        self._lock = threading.Lock()

    def show(self, text: str) -> None:
        """What was asked for: lists, addresses. It can be piped on without the rest."""
        with self._lock:
            self._clear()
            self._put(text + "\n", self._output)
            self._draw()

    def line(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._clear()
            self._put(text + "\n")
            self._draw()

    def progress(self, text: str) -> None:
        """Replace the line of progress; off a terminal, a line each time that the text changes.
        Empty ends it.
        """
        with self._lock:
            if text == self._progress:
                return
            self._clear()
            self._progress = text
            if text and not self._tty:
                self._put(text + "\n")
            self._draw()

    def bar(self) -> Progress:
        """A bar for work that is counted in units of its stage; off a terminal, a line each tenth."""
        from tqdm import tqdm

        shown: tqdm[NoReturn] | None = None
        tenth = -1

        def update(step: ProgressStep) -> None:
            nonlocal shown, tenth
            done, total, unit = int(step.done), int(step.total or 0), step.stage
            if self._tty:
                shown = shown or tqdm(
                    total=total, unit=f" {unit}", file=self._stream, leave=False, dynamic_ncols=True
                )
                shown.update(done - shown.n)
                if done >= total:
                    shown.close()
            elif done * 10 // max(total, 1) > tenth:
                tenth = done * 10 // max(total, 1)
                self.line(f"{done:,} of {total:,} {unit}")

        return update

    @contextmanager
    def gauge(self) -> Iterator[Callable[[float, str, str], None]]:
        """A bar, for the block, to be told what share (0 to 1) is done, in which words, and an
        aside that changes all the time; off a terminal, a line each time that the words change.
        """
        from tqdm import tqdm

        layout = "{percentage:3.0f}% |{bar:20}| {desc}"
        options = {
            "file": self._stream,
            "leave": False,
            "dynamic_ncols": True,
            "disable": not self._tty,
        }
        with tqdm(total=100, bar_format=layout, **options) as shown:
            said = ""

            def update(share: float, words: str, aside: str) -> None:
                nonlocal said
                if not self._tty and words != said:
                    self.line(f"{share:4.0%}  {', '.join(filter(None, (words, aside)))}")
                said, shown.n = words, round(100 * share, 1)
                # What a narrow terminal has no room for is cut off at the end.
                shown.set_description_str(", ".join(filter(None, (aside, words))))

            yield update

    def _put(self, text: str, to: TextIO | None = None) -> None:
        """Write, unless nobody listens any more: a closed pipe or terminal must not keep a
        supervisor from stopping in order.
        """
        stream = to or self._stream
        with suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()

    def _clear(self) -> None:
        if self._tty and self._progress:
            self._put("\r\x1b[K")

    def _draw(self) -> None:
        if self._tty and self._progress:
            self._put(self._progress)
