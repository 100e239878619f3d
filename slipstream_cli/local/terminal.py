"""Output of long commands: results, messages, and progress that redraws itself on a terminal."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

from slipstream.contracts.progress import Progress, ProgressStep


class Terminal:
    """Writes lines, and a line of progress below them. It is thread-safe.

    Messages and progress go to `stream` (standard error), results to `output` (standard output).
    """

    def __init__(self, stream: TextIO | None = None, output: TextIO | None = None) -> None:
        self._stream, self._output = stream or sys.stderr, output or sys.stdout
        self._tty = self._stream.isatty()
        self._progress = ""
        self._lock = threading.Lock()

    def show(self, text: str) -> None:
        """Write a result, such as a list or an address."""
        with self._lock:
            self._clear()
            self._put(text + "\n", self._output)
            self._draw()

    def line(self, text: str) -> None:
        """Write a message."""
        with self._lock:
            self._clear()
            self._put(text + "\n")
            self._draw()

    def progress(self, text: str) -> None:
        """Replace the line of progress; an empty text removes it.

        Off a terminal, each new text is a line.
        """
        with self._lock:
            if text == self._progress:
                return
            self._clear()
            self._progress = text
            if text and not self._tty:
                self._put(text + "\n")
            self._draw()

    def transient(self, text: str) -> None:
        """Replace the line of progress on a terminal; elsewhere nothing is written."""
        if self._tty:
            self.progress(text)

    def bar(self) -> Progress:
        """Make a progress bar; off a terminal, it writes a line for each tenth.

        The bar counts in units of the steps' stage.
        """
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
        """Show a bar with words for the block; off a terminal, a line each time the words change.

        The function that is yielded takes the share done (0 to 1), the words, and an aside, which
        may change each time.
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
                # A narrow terminal cuts off the end.
                shown.set_description_str(", ".join(filter(None, (aside, words))))

            yield update

    def _put(self, text: str, to: TextIO | None = None) -> None:
        """Write, also where the pipe or terminal is closed.

        An error here must not keep a supervisor from stopping in order.
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
