"""Benchmark of the stages in catalogues of several sizes, in one thread and without servers.

The models are those of `simulated_models`. Each size is measured in a process of its own, as a
worker of serving loads a bundle.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slipstream.recommender.stages import CANDIDATES
from slipstream_cli.benchmarks.catalogue_worker import (
    RECALLED,
    CatalogueFigures,
    measure,
)
from slipstream_cli.benchmarks.load import in_own_process
from slipstream_cli.benchmarks.measurements import Measurement

SIZES = (10_000, 100_000, 1_000_000)


def run(
    folder: Path,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Measurement]:
    """Measure catalogues of these sizes, which are made in the folder unless they are there.

    Args:
        folder: Folder of the models, which are kept.
        sizes: Numbers of items, ascending.
        seed: Seed of the simulations, of the fits and of the filter.
        tell: Gets what is done at present.
    """
    from slipstream_cli.benchmarks.simulated_models import simulated_model

    rows: list[Measurement] = []
    first = 0.0
    for size in sizes:
        tell(f"making a model of {size:,} items, unless it is there")
        made = in_own_process(simulated_model, folder, size, seed)
        tell(f"measuring {size:,} items")
        figures = in_own_process(measure, made, seed)
        first = first or float(np.median(figures.plain))
        rows += _rows(size, figures, first)
    return rows


def _rows(size: int, figures: CatalogueFigures, first: float) -> list[Measurement]:
    plain, filtered = float(np.median(figures.plain)), float(np.median(figures.filtered))
    few, many = figures.recall
    return [
        Measurement(
            name=f"stages, {size:,} items",
            value=plain,
            unit="ms of CPU",
            ceiling=first,
            ratio=plain / first,
            p50_ms=plain,
            p99_ms=float(np.percentile(figures.plain, 99)),
            note="set against the median of the smallest catalogue",
        ),
        Measurement(
            name="  with a filter that keeps 0.1 %",
            value=filtered,
            unit="ms of CPU",
            ceiling=plain,
            ratio=filtered / plain,
            p50_ms=filtered,
            p99_ms=float(np.percentile(figures.filtered, 99)),
            note=f"set against the unfiltered median; {figures.short} of {len(figures.filtered)}"
            " lists are not full",
        ),
        Measurement(
            name="  recall of the network's search",
            value=many,
            unit=f"of the best {CANDIDATES}",
            note=f"{few:.4f} of the best {RECALLED}; {figures.kept:.3f} of a list's items are those"
            " of a search through all",
        ),
        Measurement(
            name="  memory of a worker",
            value=figures.private_mb,
            unit="MB",
            note=f"and {figures.mapped_mb:,.0f} MB of mapped files that workers share; the"
            f" catalogue's items and attributes add {figures.catalogue_mb:,.0f} MB",
        ),
        Measurement(
            name="  memory of a further worker",
            value=figures.further_mb,
            unit="MB",
            note="of its own, with the catalogue; the rest is files and code that workers share",
        ),
    ]
