"""The benchmark of kept lists: its share of kept ones, and clicks that are refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bench import serving_clicks
from bench.load import Load
from bench.measurements import BenchmarkError, Measurement
from bench.serving_clicks import Clicks

TEXT = """
slipstream_recommendations_total{{step="model"}} {answers}
slipstream_recommendations_total{{step="trending"}} 5.0
slipstream_kept_lists_total {kept}
"""
CLICKS = Clicks("http://127.0.0.1:9", "key", ["ada", "bob"])
MADE = Measurement(name="uncached", value=100.0, unit="requests/s", ceiling=1_000.0)


def test_the_share_of_kept_lists_is_told_beside_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter((TEXT.format(answers=100, kept=10), TEXT.format(answers=1_100, kept=760)))
    rates: list[float] = []

    @contextmanager
    def clicking(clicks: Clicks, rate: float, items: list[str]) -> Iterator[Callable[[], float]]:
        rates.append(rate)
        yield lambda: 19.0

    monkeypatch.setattr(Clicks, "at", clicking)
    monkeypatch.setattr(
        serving_clicks.httpx, "get", lambda *_, **__: type("Answer", (), {"text": next(texts)})
    )
    load = Load(2.0, {200: 1_000}, [2.0] * 1_000)
    monkeypatch.setattr(serving_clicks, "in_own_process", lambda *_, **__: load)
    row: Any = serving_clicks.run("http://x", CLICKS, [b""], ["i"], made=MADE, connections=1)
    assert rates == [20.0]
    assert (row["value"], row["ratio"]) == (500.0, 0.5)
    assert row["note"].startswith("75% of the lists were kept ones, while visitors made 19 clicks")


def test_clicks_that_are_not_accepted_are_an_error() -> None:
    with (
        pytest.raises(BenchmarkError, match="did not take the clicks"),
        CLICKS.at(1_000.0, ["i"]) as clicked,
        suppress(BenchmarkError),
    ):
        clicked()  # returns once some were refused; the block's end has to tell it, too
