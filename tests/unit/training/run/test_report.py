"""The page of a run: says what was result, leaves out what was not, and lets nothing of the data be
markup.
"""

from html.parser import HTMLParser
from typing import Any

import pytest

from services.training.gate import Comparison, Measurements, StandingChampion, decide
from services.training.records import Audit
from services.training.run.job import Sample, SampleItem, TrainingResult
from services.training.run.report import report
from services.training.settings import GateSettings
from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.rest import Run
from slipstream.evaluation.figures import Figures
from slipstream.evaluation.significance import Interval
from slipstream.recommender.scripted import ScriptedVisitors

EVIL = "<script>alert('&')</script>"


def near(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01)


def compared(challenger: float, other: float) -> Comparison:
    return Comparison(400, challenger, other, near(challenger - other))


def item(item_id: str, title: str = "") -> SampleItem:
    return SampleItem(item_id=item_id, title=title, source="rules")


MEASURED = Measurements(
    compared(0.12, 0.05), 2.0, 1_000, {"new": compared(0.1, 0.06)}, compared(0.12, 0.1), 1.5, 31
)


def trained(**more: Any) -> TrainingResult:
    of = {"new": 0.1, "all": 0.12}
    figures = {
        name: {
            cohort: Figures(400, {"ndcg@10": near(value * share)}, {"coverage@10": 0.5})
            for cohort, value in reversed(of.items())
        }
        for name, share in (("challenger", 1.0), ("champion", 0.8), ("popularity", 0.4))
    }
    of_lists: dict[str, Any] = {
        "history": [item("i1", EVIL)],
        "champion": [item("i3")],
        "challenger": [item("i2")],
    }
    whole: dict[str, Any] = {
        "lake_version": 41,
        "catalog_version": 7,
        "data_sha256": "ab" * 32,
        "code_commit": "c0ffee",
        "metrics": {},
        "environment": {"torch": "2.13.0"},
        "figures": figures,
        "parameters": {},
        "measured": MEASURED,
        "seconds": {"judging": 12.0, "fitting": 70.0},
        "peak_memory_mb": 1_400.0,
        "scripted": ScriptedVisitors(2, 120, 0.25, {"rate": 2, "hours": 0}),
        "samples": [Sample(**of_lists, cohorts=["new"], next_item=item("i2"))],
    }
    return TrainingResult(**whole | more)


def page(result: TrainingResult, champion: str | None = "v1") -> str:
    decision = decide(
        result.measured, StandingChampion(champion, 12.0) if champion else None, GateSettings()
    )
    audit = Audit(
        "v2",
        "v2",
        champion,
        decision.outcome,
        decision.reason,
        decision.numbers,
        GateSettings().model_dump(),
        1,
    )
    manifest = Manifest(
        version="v2",
        created_at=1,
        profile="best",
        data=DataSummary(visitors=9, items=8, events=7_000),
        parameters={},
    )
    run = Run(
        run_id="v2", state="running", trigger="alert", reason=EVIL, created_at=1_700_000_000_000
    )
    return report(run, manifest, result, audit)


@pytest.fixture(scope="module")
def full() -> str:
    return page(trained())


@pytest.mark.parametrize(
    "said",
    [
        "Promoted",
        "Surely better than champion v1",
        "7,000 events of 9 visitors on 8 items",
        "41, catalogue 7",
        "c0ffee",
        '0.1200 <span class="note">[0.1100, 0.1300]',
        "ndcg@10, new (400)",
        "0.5000",
        '<li class="hit">i2',
        "cohort_min_queries",
        "400 questions about 31 visitors, 3 each at most",
        "2 visitors with 120 events (25.0 %) look scripted, by rate 2",
    ],
)
def test_it_says(full: str, said: str) -> None:
    assert said in full


def test_nothing_from_data_becomes_markup_and_nothing_is_fetched(full: str) -> None:
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {"src", "href", "onload", "onclick"} & {name for name, _ in attrs}

    Reader().feed(full)
    assert (
        "script" not in tags
        and "link" not in tags
        and "img" not in tags
        and tags.count("html") == 1
    )
    assert full.count("&lt;script&gt;") == 2 and EVIL not in full


def test_what_a_small_run_has_not_is_left_out() -> None:
    small = page(
        trained(figures={}, samples=[], environment={}, catalog_version=None), champion=None
    )
    for absent in (
        "What each part adds",
        "The search",
        "Before and after",
        "Quality on",
    ):
        assert absent not in small
    assert "There is no champion, and it is not worse than popularity" in small


def test_a_champion_that_could_not_be_compared_or_loaded_is_told_of() -> None:
    figures = {name: result for name, result in trained().figures.items() if name != "champion"}
    result = page(trained(figures=figures, champion_error="manifest.json is missing"))
    assert (
        "There was no champion that could be compared" in result
        and "may have met here what came next" in result
    )
    assert "could not be loaded: manifest.json is missing" in result
