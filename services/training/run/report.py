"""Report of a run for people: one HTML file that needs neither a network nor JavaScript.

`report.html` is its template. Text that comes from data is escaped there and in `charts`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from services.training.gate import Comparison, Measurements
from services.training.records import Audit
from services.training.run.charts import Dot, bar, dots, line
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import Ablation, Manifest, SearchTrial, ValidationMetrics
from slipstream.contracts.rest import Run
from slipstream.contracts.times import format_duration, format_time
from slipstream.contracts.vocabulary import CHALLENGER, CHAMPION
from slipstream.evaluation.figures import Figures, K

_NDCG, _POPULARITY = f"ndcg@{K}", "popularity"
_MOST_FEATURES = 15
_CONTESTANTS = (CHALLENGER, CHAMPION, _POPULARITY)


class RetrieverRow(NamedTuple):
    """A row of the ablation; `weight` and `lost` are None for a retriever without a weight."""

    name: str
    weight: float | None
    alone: float
    lost: float | None


def report(run: Run | None, manifest: Manifest, result: TrainingResult, audit: Audit) -> str:
    """The page as HTML; sections without figures are left out.

    Args:
        run: The run's record, with its trigger; None where it is not known.
        manifest: Manifest of the bundle.
        result: Result of the run.
        audit: The gate's decision about it.
    """
    validation = manifest.metrics.validation or ValidationMetrics()
    contestants = [name for name in _CONTESTANTS if name in result.figures]
    importance = sorted((validation.importance or {}).items(), key=lambda entry: -entry[1])
    trials = manifest.metrics.search or []
    return _template().render(
        run=run,
        manifest=manifest,
        result=result,
        audit=audit,
        reasons=audit.reason.split("; "),
        contestants=contestants,
        tables={
            cohort: list(_table({name: result.figures[name].get(cohort) for name in contestants}))
            for cohort in result.figures.get(CHALLENGER, {})
        },
        by_cohort=dots(list(_by_cohort(result.figures, contestants))),
        differences=dots(list(_differences(result.measured)), signed=True),
        blend=validation.ablation.blend if validation.ablation else None,
        retrievers=_retrievers(validation.ablation, manifest.parameters),
        whole=validation.figures.get(_NDCG),
        ranked=validation.importance is not None,
        curve=manifest.metrics.curve,
        importance=importance[:_MOST_FEATURES],
        features=len(importance),
        trials=trials,
        varied=_varied(trials),
        parameters=json.dumps(manifest.parameters, indent=2, ensure_ascii=False),
        gate_numbers=sorted(audit.numbers.items()),
        gate_settings=sorted(audit.settings.items()),
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
    environment.filters |= {"when": format_time, "span": format_duration, "figure": _figure}
    environment.globals |= {"bar": bar, "line": line}
    return environment.get_template("report.html")


def _figure(value: float) -> str:
    """A number with four places; a whole one without any."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.4f}"


def _table(
    by_contestant: Mapping[str, Figures | None],
) -> Iterator[tuple[str, list[tuple[float, Sequence[float]] | None]]]:
    """Rows of a table: each metric, with each contestant's figure and the ends of its interval."""
    known = [figures for figures in by_contestant.values() if figures]
    for name in dict.fromkeys(
        name for figures in known for name in (*figures.means, *figures.totals)
    ):
        row: list[tuple[float, Sequence[float]] | None] = []
        for figures in by_contestant.values():
            if figures and name in figures.means:
                row.append((figures.means[name].value, figures.means[name][1:]))
            else:
                row.append(
                    (figures.totals[name], ()) if figures and name in figures.totals else None
                )
        yield name, row


def _by_cohort(
    by_contestant: Mapping[str, Mapping[str, Figures]], contestants: Sequence[str]
) -> Iterator[Dot]:
    for cohort, first in by_contestant.get(CHALLENGER, {}).items():
        for contestant in contestants:
            if cohort in by_contestant[contestant]:
                label = (
                    f"{cohort} ({first.queries:,}): {contestant}"
                    if contestant == CHALLENGER
                    else contestant
                )
                yield Dot(label, contestant, by_contestant[contestant][cohort].means[_NDCG])


def _differences(measured: Measurements) -> Iterator[Dot]:
    def dot(label: str, kind: str, comparison: Comparison) -> Dot:
        return Dot(f"{label} ({comparison.queries:,})", kind, comparison.difference)

    if measured.champion:
        yield dot("to the champion", CHAMPION, measured.champion)
    yield dot("to popularity", _POPULARITY, measured.popularity)
    for cohort, comparison in measured.cohorts.items():
        yield dot(f"to popularity, {cohort}", _POPULARITY, comparison)


def _retrievers(ablation: Ablation | None, parameters: Mapping[str, Any]) -> list[RetrieverRow]:
    if ablation is None:
        return []
    weights, without = parameters.get("blend") or {}, ablation.without
    return [
        RetrieverRow(
            name,
            weights.get(name),
            alone,
            ablation.blend - without[name] if name in without else None,
        )
        for name, alone in sorted(ablation.alone.items(), key=lambda entry: -entry[1])
    ]


def _varied(trials: Sequence[SearchTrial]) -> list[str]:
    """The parameters that are not the same in all trials."""
    names = trials[0].parameters if trials else {}
    return [
        name for name in names if len({repr(trial.parameters.get(name)) for trial in trials}) > 1
    ]
