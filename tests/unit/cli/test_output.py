import pytest

from slipstream.contracts.times import format_duration
from slipstream_cli.output import figures, show_facts, show_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (100, "1 min 40 s"), (599, "9 min 59 s"),
        (620, "10 min"), (3599, "60 min"),
        (3600, "1 h"), (5400, "1 h 30 min"), (90_000, "25 h"),
    ],
)  # fmt: skip
def test_span_is_in_units_that_people_use(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_table_is_aligned_and_facts_leave_out_what_is_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_table(("a", "long"), [("wider", "x"), ("y", "")])
    show_facts([("one", "1"), ("nothing", ""), ("three", "3")])
    assert capsys.readouterr().out == "a      long\nwider  x\ny\none    1\nthree  3\n"


def test_figures_are_those_of_the_whole_alone() -> None:
    metrics = {"ndcg@10": 0.25, "cohort/new/ndcg@10": 0.1, "champion/ndcg@10": 0.2}
    assert figures(metrics) == [("ndcg@10", "0.2500")]
