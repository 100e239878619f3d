"""Report of a run for people: one HTML file that needs neither a network nor JavaScript.

`report.html` is its template. Charts are inline SVG: dots with intervals, bars, lines. Their
colours are classes of the page's style sheet. Text that comes from data is escaped in the template
and, by `Markup.format`, in charts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from services.training.gate import Comparison, Measurements
from services.training.records import Audit
from services.training.run.job import TrainingResult
from slipstream.contracts.bundle import Ablation, Manifest, SearchTrial, ValidationMetrics
from slipstream.contracts.rest import Run
from slipstream.contracts.steps import RunSteps
from slipstream.contracts.times import format_duration, format_time
from slipstream.contracts.vocabulary import CHALLENGER, CHAMPION
from slipstream.evaluation.figures import Figures, K
from slipstream.evaluation.significance import Interval
from slipstream.recommender.holdout import QUESTIONS_A_VISITOR

_WIDTH, _ROW, _LEFT, _RIGHT = 720, 22, 210, 70
_TICKS = 4


class Dot(NamedTuple):
    """A row of a chart: a mean with its interval; `kind` is its class."""

    label: str
    kind: str
    mean: Interval


def dots(rows: Sequence[Dot], *, signed: bool = False) -> Markup:
    """A chart with a line for each row, on an axis with 0; `signed` shows the signs."""
    if not rows:
        return Markup("")
    low, high = (
        min(0.0, *(row.mean.low for row in rows)),
        max(0.0, *(row.mean.high for row in rows)),
    )
    scale = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 1e-9)
    height = _ROW * len(rows) + 24

    def x(value: float) -> float:
        return _LEFT + (value - low) * scale

    parts = [
        Markup(
            '<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{end}"/>'
            '<text x="{x:.1f}" y="{below}" class="middle">{tick:{form}}</text>'
        ).format(
            x=x(tick),
            end=height - 18,
            below=height - 4,
            tick=tick,
            form="+.3g" if signed and tick else ".3g",
        )
        for tick in _ticks(low, high)
    ]
    for place, (label, kind, mean) in enumerate(rows):
        y = _ROW * place + _ROW / 2
        parts.append(
            Markup(
                '<text x="0" y="{y4:.1f}" class="label">{label}</text>'
                '<line class="whisker {kind}" x1="{low:.1f}" x2="{high:.1f}" '
                'y1="{y:.1f}" y2="{y:.1f}"/>'
                '<circle class="dot {kind}" cx="{at:.1f}" cy="{y:.1f}" r="4.5"/>'
                '<text x="{right}" y="{y4:.1f}" class="end">{value}</text>'
            ).format(
                y=y,
                y4=y + 4,
                label=label,
                kind=kind,
                low=x(mean.low),
                high=x(mean.high),
                at=x(mean.value),
                right=_WIDTH,
                value=f"{mean.value:+.4f}" if signed else f"{mean.value:.4f}",
            )
        )
    return _svg(_WIDTH, height, parts)


def bar(value: float, largest: float) -> Markup:
    """A bar for a cell of a table, as a share of the column's largest; empty below 0."""
    width = 120 * min(1.0, max(0.0, value / largest)) if largest > 0 else 0.0
    return Markup(
        '<svg class="bar" viewBox="0 0 120 10" width="120" height="10" aria-hidden="true">{}</svg>'
    ).format(
        Markup(
            '<rect class="track" width="120" height="10" rx="2"/>'
            '<rect class="value" width="{:.1f}" height="10" rx="2"/>'
        ).format(width)
    )


def line(values: Sequence[float | None], marked: int | None = None) -> Markup:
    """A line with a point for each epoch, without those that are None.

    `marked` is the epoch (from 1) that gets a dot.
    """
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    if not known:
        return Markup("")
    width, height, left, bottom = 350, 150, 52, 22
    low, high = min(value for _, value in known), max(value for _, value in known)
    room = max(high - low, 1e-9)

    def x(place: int) -> float:
        return left + (width - left - 8) * place / max(1, len(values) - 1)

    def y(value: float) -> float:
        return 8 + (height - bottom - 12) * (high - value) / room

    parts = [
        Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text x="{label}" y="{below:.1f}" class="end">{value:.4g}</text>'
        ).format(
            left=left, right=width, label=left - 6, y=y(value), below=y(value) + 4, value=value
        )
        for value in sorted({low, high})
    ]
    path = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in known)
    parts.append(Markup('<polyline class="curve" points="{}"/>').format(path))
    for place, value in known:
        if place + 1 == marked:
            parts.append(
                Markup('<circle class="dot challenger" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(
                    x(place), y(value)
                )
            )
    for place in sorted({0, len(values) - 1}):
        parts.append(
            Markup('<text x="{:.1f}" y="{}" class="middle">{}</text>').format(
                x(place), height - 4, place + 1
            )
        )
    return _svg(width, height, parts)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, 0 among them."""
    if high <= low:
        return [0.0]
    rough = (high - low) / _TICKS
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * min((1, 2, 5, 10), key=lambda factor: abs(factor * power - rough)))
    return [
        step * place for place in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)
    ]


def _svg(width: int, height: int, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg viewBox="0 0 {0} {1}" style="max-width:{0}px" role="img">{2}</svg>').format(
        width, height, Markup("").join(parts)
    )


_NDCG, _POPULARITY = f"ndcg@{K}", "popularity"
_MOST_FEATURES = 15
_CONTESTANTS = (CHALLENGER, CHAMPION, _POPULARITY)


class RetrieverRow(NamedTuple):
    """A row of the ablation; `weight` and `lost` are None for a retriever without a weight."""

    name: str
    weight: float | None
    alone: float
    lost: float | None


def report(
    run: Run | None,
    manifest: Manifest,
    result: TrainingResult,
    audit: Audit,
    steps: RunSteps | None = None,
) -> str:
    """The page as HTML; sections without figures are left out.

    Args:
        run: The run's record, with its trigger; None where it is not known.
        manifest: Manifest of the bundle.
        result: Result of the run.
        audit: The gate's decision about it.
        steps: The run's steps, with what they cost; None where they are not known.
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
        steps=steps,
        reasons=audit.reason.split("; "),
        contestants=contestants,
        questions_a_visitor=QUESTIONS_A_VISITOR,
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
