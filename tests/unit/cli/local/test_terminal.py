import io

import pytest

from slipstream.contracts.progress import ProgressStep
from slipstream_cli.local.terminal import Terminal


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_lines_of_which_few_differ_in_figures_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: times[-1])
    stream = io.StringIO()
    terminal = Terminal(stream)
    for time, text in (
        *((0.0, "half"), (0.0, "half"), (1.0, "1,000 rows"), (2.0, "2,000 rows"), (2.0, "")),
        *((3.0, "3,000 rows"), (7.0, "4,000 rows"), (9.0, "5,000 rows"), (99.0, "5,000 rows")),
    ):
        times.append(time)
        terminal.progress(text)
    terminal.line("done")
    said = stream.getvalue().splitlines()
    assert said == ["half", "1,000 rows", "3,000 rows", "5,000 rows", "done"]


def test_what_passes_is_shown_on_a_terminal_alone() -> None:
    stream, terminal = io.StringIO(), _Tty()
    for output in (stream, terminal):
        Terminal(output).transient("half")
    assert (stream.getvalue(), terminal.getvalue()) == ("", "half\n")


def test_what_was_asked_for_goes_to_the_output_alone() -> None:
    stream, output = io.StringIO(), io.StringIO()
    terminal = Terminal(stream, output)
    terminal.show("a list")
    terminal.line("note")
    assert (output.getvalue(), stream.getvalue()) == ("a list\n", "note\n")


def test_bar_writes_a_line_each_tenth() -> None:
    stream = io.StringIO()
    bar = Terminal(stream).bar()
    for done in range(0, 1001, 50):
        bar(ProgressStep("events", done, 1000))
    assert stream.getvalue().splitlines()[::5] == [
        "0 of 1,000 events",
        "500 of 1,000 events",
        "1,000 of 1,000 events",
    ]


def test_gauge_writes_a_line_when_the_words_change_off_a_terminal() -> None:
    stream = io.StringIO()
    with Terminal(stream).gauge() as shown:
        shown(0.05, "fitting, epoch 1 of 9")
        shown(0.07, "fitting, epoch 1 of 9")
        shown(0.5, "judging")
    assert stream.getvalue() == "  5%  fitting, epoch 1 of 9\n 50%  judging\n"


def test_gauge_is_a_bar_on_a_terminal() -> None:
    stream = _Tty()
    with Terminal(stream).gauge() as shown:
        shown(0.25, "fitting")
    assert " 25% |#####---------------| fitting" in stream.getvalue()


def test_terminal_that_has_gone_away_is_no_failure() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    terminal = Terminal(Gone(), Gone())
    terminal.line("stopping")
    terminal.progress("waiting")
    terminal.show("lists")
