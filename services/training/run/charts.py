"""Charts as inline SVG: dots with intervals, bars, lines.

Colours are classes of the page's style sheet. Text goes in through `Markup.format`, which escapes
it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from slipstream.evaluation.significance import Interval

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
            '<text x="{beside}" y="{below:.1f}" class="end">{value:.4g}</text>'
        ).format(
            left=left, right=width, beside=left - 6, y=y(value), below=y(value) + 4, value=value
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
