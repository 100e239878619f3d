"""Folding of a window's samples into sketches of their visitors. Pure functions."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.monitoring.item_attributes import place_of
from services.monitoring.slate_readings import MEASURES, Readings
from slipstream.evaluation.drift import Sketch, sketch_names, sketch_numbers
from slipstream.evaluation.drift_findings import Window
from slipstream.evaluation.metrics import coverage, gini, novelty

# Names that a sketch keeps.
_MOST_NAMES: Final = 100
_READINGS: Final = msgspec.json.Decoder(Readings)


def fold(
    start: int,
    length_ms: int,
    rows: Iterable[tuple[str, float, str]],
    catalogue: int | None,
) -> Window:
    """The window of these samples.

    Args:
        start: Beginning of the window (ms).
        rows: Key of a visitor, share of visitors that were sampled then, and the readings.
        catalogue: Number of items in the catalogue; None where it is not known.
    """
    kept = list(rows)
    share = min((share for _, share, _ in kept), default=1.0)
    # The share fell while the window was open: only visitors of the last one are of all of it.
    read = [_READINGS.decode(body) for visitor, _, body in kept if place_of(visitor) < share]
    versions = Counter(each.version for each in read if each.version)
    version = max(versions, key=lambda name: (versions[name], name), default="")
    sketches: dict[str, Sketch] = {}
    for measure in MEASURES:
        values = [
            each.values[measure.name]
            for each in read
            if measure.name in each.values
            and (measure.of == "read" or each.version in ("", version))
        ]
        if values:
            sketches[measure.name] = (
                sketch_numbers(values)
                if measure.form == "number"
                else sketch_names(values, _MOST_NAMES)
            )
    return Window(
        start=start,
        length_ms=length_ms,
        visitors=len(read) / share,
        version=version,
        placement=sketch_names(({each.stratum: 1.0} for each in read), _MOST_NAMES),
        sketches=sketches,
        catalogue=catalogue,
        figures=_figures(read, catalogue),
    )


def _figures(read: Sequence[Readings], catalogue: int | None) -> dict[str, float]:
    """Coverage, inequality and novelty of the lists shown, against the items of histories."""
    numbers: dict[str, int] = {}
    of_lists = [[numbers.setdefault(it, len(numbers)) for it in each.shown] for each in read]
    of_histories = [numbers.setdefault(it, len(numbers)) for each in read for it in each.read]
    longest = max(map(len, of_lists), default=0)
    if not longest:
        return {}
    lists: NDArray[np.int32] = np.full((len(of_lists), longest), -1, np.int32)
    for row, items in enumerate(of_lists):
        lists[row, : len(items)] = items
    figures = {}
    if catalogue:
        size = max(catalogue, len(numbers))
        figures = {"coverage": coverage(lists, size), "gini": gini(lists, size)}
    if of_histories:
        counts = np.bincount(of_histories, minlength=len(numbers)).astype(np.int64)
        shown = (lists >= 0).any(axis=1)
        figures["novelty"] = float(novelty(lists[shown], counts).mean())
    return figures
