"""The report of a run, for people: one HTML file with everything in it, which needs neither a
network nor JavaScript.

`report.html` is its template; whatever comes from data is escaped there and in `charts`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from services.training.gate import Comparison, Measurements
from services.training.registry import CHALLENGER, CHAMPION
from services.training.repository import Audit
from services.training.run.charts import Dot, bar, dots, line
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import Manifest
from slipstream.contracts.rest import Run
from slipstream.contracts.times import format_duration, format_time
from slipstream.evaluation.figures import Figures, K

_NDCG, _POPULARITY = f"ndcg@{K}", "popularity"
_MOST_FEATURES = 15
_CONTESTANTS = (CHALLENGER, CHAMPION, _POPULARITY)


class RetrieverRow(NamedTuple):
    """A row of the ablation; `lost` and `weight` are None for a retriever that the blend does not
    hear.
    """

    name: str
    weight: float | None
    alone: float
    lost: float | None


def report(run: Run | None, manifest: Manifest, trained: TrainingResult, audit: Audit) -> str:
    """The page. `run` says who asked for it, `audit` what the gate decided of it; what a run has no
    figures of is left out.
    """
    metrics: Mapping[str, Any] = manifest.metrics
    validation = metrics.get("validation") or {}
    contestants = [name for name in _CONTESTANTS if name in trained.figures]
    importance = sorted(validation.get("importance", {}).items(), key=lambda entry: -entry[1])
    trials = metrics.get("search") or []
    return _template().render(
        run=run,
        manifest=manifest,
        trained=trained,
        audit=audit,
        reasons=audit.reason.split("; "),
        contestants=contestants,
        tables={
            cohort: list(_table({name: trained.figures[name].get(cohort) for name in contestants}))
            for cohort in trained.figures.get(CHALLENGER, {})
        },
        by_cohort=dots(list(_by_cohort(trained.figures, contestants))),
        differences=dots(list(_differences(trained.measured)), signed=True),
        blend=validation.get("ablation", {}).get("blend"),
        retrievers=_retrievers(validation.get("ablation"), manifest.parameters),
        validation=validation,
        curve=metrics.get("curve"),
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
    """Four places; whole numbers as such."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.4f}"


def _table(
    found: Mapping[str, Figures | None],
) -> Iterator[tuple[str, list[tuple[float, Sequence[float]] | None]]]:
    """Each metric with its figure, and the ends of its interval where it has one, of each
    contestant.
    """
    known = [figures for figures in found.values() if figures]
    for name in dict.fromkeys(
        name for figures in known for name in (*figures.means, *figures.totals)
    ):
        row: list[tuple[float, Sequence[float]] | None] = []
        for figures in found.values():
            if figures and name in figures.means:
                row.append((figures.means[name].value, figures.means[name][1:]))
            else:
                row.append(
                    (figures.totals[name], ()) if figures and name in figures.totals else None
                )
        yield name, row


def _by_cohort(
    found: Mapping[str, Mapping[str, Figures]], contestants: Sequence[str]
) -> Iterator[Dot]:
    for cohort, first in found.get(CHALLENGER, {}).items():
        for contestant in contestants:
            if cohort in found[contestant]:
                label = (
                    f"{cohort} ({first.queries:,}): {contestant}"
                    if contestant == CHALLENGER
                    else contestant
                )
                yield Dot(label, contestant, found[contestant][cohort].means[_NDCG])


def _differences(measured: Measurements) -> Iterator[Dot]:
    def dot(label: str, kind: str, comparison: Comparison) -> Dot:
        return Dot(f"{label} ({comparison.queries:,})", kind, comparison.difference)

    if measured.champion:
        yield dot("to the champion", CHAMPION, measured.champion)
    yield dot("to popularity", _POPULARITY, measured.popularity)
    for cohort, comparison in measured.cohorts.items():
        yield dot(f"to popularity, {cohort}", _POPULARITY, comparison)


def _retrievers(
    ablation: Mapping[str, Any] | None, parameters: Mapping[str, Any]
) -> list[RetrieverRow]:
    if not ablation:
        return []
    weights, without = parameters.get("blend") or {}, ablation["without"]
    return [
        RetrieverRow(
            name,
            weights.get(name),
            alone,
            ablation["blend"] - without[name] if name in without else None,
        )
        for name, alone in sorted(ablation["alone"].items(), key=lambda entry: -entry[1])
    ]


def _varied(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters that are not the same in all trials."""
    names = trials[0]["parameters"] if trials else {}
    return [
        name for name in names if len({repr(trial["parameters"].get(name)) for trial in trials}) > 1
    ]
