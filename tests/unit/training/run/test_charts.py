import re

import pytest

from services.training.run.charts import Dot, bar, dots, line
from slipstream.evaluation.significance import Interval


def numbers(attribute: str, svg: str) -> list[float]:
    return [float(result) for result in re.findall(rf'{attribute}="([-\d.]+)"', svg)]


def test_a_dot_lies_within_its_interval_and_zero_is_on_the_axis() -> None:
    svg = dots(
        [
            Dot("a", "challenger", Interval(0.1, 0.05, 0.2)),
            Dot("b", "champion", Interval(-0.1, -0.2, 0.0)),
        ],
        signed=True,
    )
    first, second = (
        re.findall(rf'<line class="whisker {kind}"[^>]*>', svg)[0]
        for kind in ("challenger", "champion")
    )
    at = numbers("cx", svg)
    for whisker, place in ((first, at[0]), (second, at[1])):
        assert numbers("x1", whisker)[0] < place < numbers("x2", whisker)[0]
    assert numbers("x2", second) == numbers(
        "x2", re.findall(r'<line class="grid"[^>]*><text[^>]*>0<', svg)[0]
    )
    assert "+0.1000" in svg and "-0.1000" in svg


def test_labels_are_escaped() -> None:
    assert "<b>" not in dots([Dot("<b>", "challenger", Interval(0, 0, 0))])


@pytest.mark.parametrize(("value", "width"), [(0.5, 60), (2, 120), (-1, 0)])
def test_a_bar_is_as_long_as_its_share(value: float, width: float) -> None:
    assert numbers("width", bar(value, 1))[-1] == width


def test_a_line_falls_and_rises_and_marks_an_epoch() -> None:
    svg = line([3.0, None, 1.0, 2.0], marked=3)
    points = [
        tuple(map(float, point.split(",")))
        for point in re.findall(r'points="([^"]*)"', svg)[0].split()
    ]
    assert len(points) == 3 and points[0][1] < points[2][1] < points[1][1]  # y grows downwards
    assert numbers("cx", svg) == [points[1][0]]


def test_nothing_gives_no_chart() -> None:
    assert dots([]) == line([]) == line([None]) == "" and "NaN" not in line([1.0]) + bar(0, 0)
