"""Report of a run for people: one HTML page with the gate's decision, figures and samples.

`report.html` is its template. It needs neither a network nor JavaScript, and escapes all text that
comes from data.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from services.training.records import Audit
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.rest import Run
from slipstream.contracts.times import format_time
from slipstream.contracts.vocabulary import CHALLENGER, CHAMPION
from slipstream.evaluation.figures import Figures, K
from slipstream.recommender.holdout import QUESTIONS_A_VISITOR

_CONTESTANTS: Final = (CHALLENGER, CHAMPION, "popularity")
_NDCG: Final = f"ndcg@{K}"
_ALL: Final = "all"


def report(run: Run | None, manifest: Manifest, result: TrainingResult, audit: Audit) -> str:
    """The page as HTML, without sections that have no figures; `run` tells who requested it."""
    contestants = [name for name in _CONTESTANTS if name in result.figures]
    return _template().render(
        run=run,
        manifest=manifest,
        result=result,
        audit=audit,
        contestants=contestants,
        questions_a_visitor=QUESTIONS_A_VISITOR,
        rows=list(_rows(result.figures, contestants)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("services.training.run", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"when": format_time, "figure": _figure}
    return environment.get_template("report.html")


def _figure(value: float) -> str:
    """A number with four places; a whole one without any."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.4f}"


def _rows(
    figures: Mapping[str, Mapping[str, Figures]], contestants: Sequence[str]
) -> Iterator[tuple[str, list[tuple[float, Sequence[float]] | None]]]:
    """Rows of the table: every metric over all queries, then NDCG by cohort.

    A cell has the value and the ends of its interval, if it has one.
    """
    cohorts = figures.get(CHALLENGER, {})
    for cohort in sorted(cohorts, key=lambda name: name != _ALL):
        of_cohort = [figures[name].get(cohort) for name in contestants]
        known = [it for it in of_cohort if it is not None]
        metrics = dict.fromkeys(name for it in known for name in (*it.means, *it.totals))
        for metric in metrics if cohort == _ALL else [_NDCG]:
            label = metric if cohort == _ALL else f"{metric}, {cohort}"
            yield f"{label} ({cohorts[cohort].queries:,})", [_cell(it, metric) for it in of_cohort]


def _cell(figures: Figures | None, metric: str) -> tuple[float, Sequence[float]] | None:
    if figures is None:
        return None
    if metric in figures.means:
        return figures.means[metric].value, figures.means[metric][1:]
    return (figures.totals[metric], ()) if metric in figures.totals else None
