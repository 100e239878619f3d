"""Judgement of a window against earlier ones: what shifted, and what is at fault. Pure functions.

A *shift* is a change of what visitors do or like. A *fault* is a change that visitors don't make:
values are missing, constant, out of range or unknown, names have vanished, or hardly any visitor is
left. Both need a size, a population stability index of `Limits.warning`, and a significance by
visitor. The latter is corrected by Bonferroni's method for all comparisons of a look, and `alpha`
for all looks of a month.

Windows are compared at like moments only: the caller gives references of the same place in the
season, such as the same hours of the same weekday.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from slipstream.evaluation.drift import OTHER, Distances, Sketch, distances, share_moved

Kind = Literal["", "shift", "fault"]

# A month has this many milliseconds; the chance of a false finding is stated for one.
MONTH_MS: Final = 30 * 86_400_000
# Share of a window's visitors from which a value counts as its only one, and the most that the
# reference may have of one.
_CONSTANT: Final = 0.99
_VARIED: Final = 0.9
# Share of visitors with names that the reference lacks, or with numbers beyond its own, from which
# the cause is a change of meaning, and no longer one of taste.
_STRANGE: Final = 0.5
# Least share in the reference of a name that can vanish, and what is left of one that has.
_FREQUENT: Final = 0.1
_VANISHED: Final = 0.1
# Factor by which the number of visitors may differ from that at a like moment.
_VOLUME: Final = 4.0
# Share of the catalogue that may be gone at once, and the least catalogue of which that is said.
_EMPTIED: Final = 0.5
_CATALOGUE: Final = 20


class Measure(NamedTuple):
    """A measure of slates.

    Attributes:
        of: Whether the model read it, or said it. What is said depends on the model and on the
            placements' rules as well, so only a fault of it is a finding.
        form: Whether its values are numbers or names.
        good: The only name that is in order; more of others is a fault.
        fixed: Whether names with a good share stay while all is in order.
        grows: Whether its numbers are bounded by the age of the data, and so grow for as long as a
            shop is young. Only their fall is a finding.
    """

    name: str
    of: Literal["read", "said"]
    form: Literal["number", "names"]
    good: str = ""
    fixed: bool = False
    grows: bool = False


@dataclass(frozen=True)
class Window:
    """A window of slates, each visitor once.

    Attributes:
        visitors: Number of visitors, estimated where only some were looked at.
        version: Model version of most slates; '' for none.
        placement: Shares of placements among the visitors.
        catalogue: Number of items in the catalogue; None where it was not known.
    """

    start: int
    length_ms: int
    visitors: float
    version: str = ""
    placement: Sketch = field(default_factory=lambda: Sketch({}))
    sketches: Mapping[str, Sketch] = field(default_factory=dict)
    catalogue: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


class Limits(NamedTuple):
    """Limits of findings.

    Attributes:
        warning: Population stability index of a finding.
        alpha: Chance of a false finding in a month, over all comparisons.
        visitors: Least visitors in either window.
    """

    warning: float
    alpha: float
    visitors: int


class Verdict(NamedTuple):
    """The comparison of one measure with the reference that it differs most from.

    Attributes:
        reference: Name of that reference.
        kind: `shift`, `fault`, or '' for neither.
        visitors: Visitors with a value: in the reference, and in the window.
        distances: The distances; None where either has no visitor with a value.
    """

    measure: Measure
    reference: str
    kind: Kind
    why: str
    visitors: tuple[float, float]
    distances: Distances | None


def judge(
    window: Window,
    references: Mapping[str, Window],
    measures: Sequence[Measure],
    limits: Limits,
) -> list[Verdict]:
    """The verdict on each measure that both the window and a reference have. The references are
    windows at like moments, by name.
    """
    pairs = [
        (measure, name, reference)
        for measure in measures
        for name, reference in references.items()
        if _comparable(measure, window, reference)
    ]
    level = limits.alpha * window.length_ms / MONTH_MS / max(1, len(pairs))
    mixed = {
        name: _moved(distances(it.placement, window.placement, numbers=False), limits, level)
        for name, it in references.items()
    }
    found: dict[str, Verdict] = {}
    for measure, name, reference in pairs:
        verdict = _verdict(
            measure, name, reference, window, limits, level, mixed_otherwise=mixed[name]
        )
        known = found.get(measure.name)
        if known is None or _weight(verdict) > _weight(known):
            found[measure.name] = verdict
    return list(found.values())


def _comparable(measure: Measure, window: Window, reference: Window) -> bool:
    both = measure.name in window.sketches and measure.name in reference.sketches
    return both and (measure.of == "read" or window.version in ("", reference.version))


def _weight(verdict: Verdict) -> tuple[int, float]:
    psi = verdict.distances.psi if verdict.distances else 0.0
    return ("", "shift", "fault").index(verdict.kind), psi


def _moved(found: Distances | None, limits: Limits, level: float) -> bool:
    return found is not None and found.psi >= limits.warning and found.p < level


def _verdict(
    measure: Measure,
    name: str,
    reference: Window,
    window: Window,
    limits: Limits,
    level: float,
    *,
    mixed_otherwise: bool,
) -> Verdict:
    before, now = reference.sketches[measure.name], window.sketches[measure.name]
    found = distances(before, now, numbers=measure.form == "number")
    visitors = before.present, now.present
    kind: Kind = ""
    why = ""
    if min(before.visitors, now.visitors) >= limits.visitors:
        why = next(_faults(measure, before, now, found, limits, level), "")
        if why:
            kind = "fault"
        elif (
            measure.of == "read"
            and not measure.good
            and not _grew(measure, before, now)
            and not mixed_otherwise
            and min(visitors) >= limits.visitors
            and _moved(found, limits, level)
        ):
            kind = "shift"
    return Verdict(measure, name, kind, why, visitors, found)


def _faults(
    measure: Measure,
    before: Sketch,
    now: Sketch,
    found: Distances | None,
    limits: Limits,
    level: float,
) -> Iterator[str]:
    """What is at fault with a measure, in words."""
    if _rose((before.missing, before.visitors), (now.missing, now.visitors), limits, level):
        yield f"missing for {now.missing / now.visitors:.0%} of visitors"
    if not before.present or not now.present:
        return
    if measure.good:
        bad = [
            (sketch.present - sketch.counts.get(measure.good, 0.0), sketch.present)
            for sketch in (before, now)
        ]
        if _rose(bad[0], bad[1], limits, level):
            yield f"not {measure.good} for {bad[1][0] / now.present:.0%} of visitors"
    if measure.fixed:
        for key, count in before.counts.items():
            kept = now.counts.get(key, 0.0)
            left, share = kept / now.present, count / before.present
            # What has fallen rose from now to before.
            fell = _rose((kept, now.present), (count, before.present), limits, level)
            if key != OTHER and share >= _FREQUENT and left < share * _VANISHED and fell:
                yield f"{key} has vanished: {left:.1%} of visitors, {share:.1%} before"
    if not _moved(found, limits, level):
        return
    top = max(now.counts, key=lambda key: now.counts[key])
    most_before = max(before.counts.values()) / before.present
    same = now.counts[top] / now.present >= _CONSTANT and most_before < _VARIED
    if same and not measure.good and not measure.fixed:
        yield "the same value for all visitors"
    strange = _strange(measure, before, now) / now.present
    if strange > _STRANGE and not _grew(measure, before, now):
        what = "out of the range" if measure.form == "number" else "not among the names"
        yield f"{strange:.0%} of values are {what} of before"


def _grew(measure: Measure, before: Sketch, now: Sketch) -> bool:
    """Whether a measure that grows has no lower median than before."""
    return measure.grows and _median(now) >= _median(before)


def _median(sketch: Sketch) -> int:
    """The bucket of the median of numbers."""
    half, reached = sketch.present / 2, 0.0
    for place in sorted(map(int, sketch.counts)):
        reached += sketch.counts[str(place)]
        if reached >= half:
            return place
    return 0


def _strange(measure: Measure, before: Sketch, now: Sketch) -> float:
    """Visitors with numbers beyond all of the reference's, or with names that it lacks."""
    if measure.form == "number":
        known = [int(key) for key in before.counts]
        low, high = min(known), max(known)
        return sum(count for key, count in now.counts.items() if not low <= int(key) <= high)
    unknown = sum(
        count for key, count in now.counts.items() if key != OTHER and key not in before.counts
    )
    # As many may be among the reference's names without a count of their own.
    return unknown - before.counts.get(OTHER, 0.0) / before.present * now.present


def _rose(
    before: tuple[float, float], now: tuple[float, float], limits: Limits, level: float
) -> bool:
    """Whether a share rose by the size of a finding, and surely."""
    if not before[1] or not now[1] or now[0] / now[1] <= before[0] / before[1]:
        return False
    psi, p = share_moved(before, now)
    return psi >= limits.warning and p < level


def volume_fault(window: Window, reference: Window, limits: Limits) -> str:
    """The fault of a window with far fewer or more visitors than at a like moment; '' if none."""
    few, many = sorted((window.visitors, reference.visitors))
    if many < 2 * limits.visitors or few * _VOLUME > many:
        return ""
    return f"{window.visitors:,.0f} visitors, {reference.visitors:,.0f} at a like moment before"


def catalogue_fault(items: int | None, before: int | None) -> str:
    """The fault of a catalogue that has lost most of its items; '' if none."""
    if items is None or before is None or before < _CATALOGUE or items >= before * _EMPTIED:
        return ""
    return f"the catalogue has {items:,} items, {before:,} before"
