import io

from slipstream.contracts.progress import ProgressStep
from slipstream_cli.local.terminal import Terminal


class _Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_plain_lines_off_a_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    for text in ("one", "one", "two", ""):
        terminal.progress(text)
    terminal.line("done")
    assert stream.getvalue() == "one\ntwo\ndone\n"


def test_progress_rewrites_itself_below_the_lines_on_a_terminal() -> None:
    stream = _Tty()
    terminal = Terminal(stream)
    terminal.progress("half")
    terminal.line("note")
    terminal.progress("")
    assert stream.getvalue() == "half\r\x1b[Knote\nhalf\r\x1b[K"


def test_what_was_asked_for_goes_to_the_output_alone_and_progress_goes_on() -> None:
    stream, output = _Tty(), io.StringIO()
    terminal = Terminal(stream, output)
    terminal.progress("half")
    terminal.show("a list")
    terminal.line("note")
    assert output.getvalue() == "a list\n"
    assert stream.getvalue() == "half\r\x1b[Khalf\r\x1b[Knote\nhalf"


def test_bar_writes_a_line_each_tenth_off_a_terminal() -> None:
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
        shown(0.05, "fitting, epoch 1 of 9", "about 9 s left")
        shown(0.07, "fitting, epoch 1 of 9", "about 8 s left")
        shown(0.5, "judging", "")
    assert stream.getvalue() == "  5%  fitting, epoch 1 of 9, about 9 s left\n 50%  judging\n"


def test_gauge_is_a_bar_on_a_terminal_and_leaves_nothing() -> None:
    stream = _Tty()
    with Terminal(stream).gauge() as shown:
        shown(0.25, "fitting", "about 9 s left")
    assert " 25% |#####" in stream.getvalue()
    assert "| about 9 s left, fitting" in stream.getvalue()
    assert stream.getvalue().endswith("\r")


def test_terminal_that_has_gone_away_is_no_failure() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    terminal = Terminal(Gone(), Gone())
    terminal.line("stopping")
    terminal.progress("waiting")
    terminal.show("lists")
