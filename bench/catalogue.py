"""Benchmark of the stages in catalogues of several sizes, in one thread and without servers.

The models are those of simulated catalogues, fitted briefly: they have the size of real ones, not
their skill. Each size is measured in a process of its own, as a worker of serving loads a bundle.

The events are those of `slipstream simulate`. Parameters are not tuned, EASE is solved for few
items, and the network reads each of some events once. Its vectors are clustered nevertheless, since
items of one category or brand share the vectors of these terms.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.catalogue_worker import (
    BUNDLE,
    HISTORIES,
    RECALLED,
    CatalogueFigures,
    measure,
)
from bench.load import in_own_process
from bench.measurements import Measurement
from slipstream.datasets.interactions import read_interactions, read_items
from slipstream.datasets.simulator import Simulation, simulate
from slipstream.evaluation.splits import time_split
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.models.blend import initial_blend
from slipstream.models.content import fit_content
from slipstream.models.transformer import TransformerParameters
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle, save_bundle
from slipstream.recommender.holdout import sample
from slipstream.recommender.network import NETWORKS, learn_again
from slipstream.recommender.ranking import fit_ranking
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.refit import describe, item_terms, new_manifest
from slipstream.recommender.stages import CANDIDATES
from slipstream.recommender.tuning import RetrieverParameters, fit_retrievers

_ASKED, _HISTORY = 300, 20
# Events of the simulation: some for each item, between these limits.
_EVENTS_PER_ITEM, _FEWEST_EVENTS, _MOST_EVENTS = 5, 300_000, 2_000_000
_NETWORK_EVENTS = 200_000
_EASE_ITEMS = 2_000
_RANKING_QUERIES = 500


def simulated_model(folder: Path, items: int, seed: int = 0) -> Path:
    """A folder with the bundle of a simulated catalogue, and histories to ask it with.

    Args:
        folder: Parent of the folder. A model that is there already is taken as it is.

    Returns:
        The folder: `BUNDLE`, and in `HISTORIES` lists of item ids, oldest first.
    """
    made = folder / f"simulated-{items}-{seed}"
    if (made / HISTORIES).exists():
        return made
    shutil.rmtree(made, ignore_errors=True)  # what an interrupted run has left
    events = int(np.clip(_EVENTS_PER_ITEM * items, _FEWEST_EVENTS, _MOST_EVENTS))
    files = simulate(made, Simulation(events // 20, items, events, seed))
    interactions, table = read_interactions(files.interactions), read_items(files.items)
    item_ids = sorted(table["item_id"].to_pylist())
    log = encoding.encode(interactions, item_ids, EventWeights())
    bundle = _fitted(log, item_ids, encoding.attributes(table, item_ids), seed)
    save_bundle(bundle, made / BUNDLE)
    lasts = np.append(np.flatnonzero(np.diff(log.user)), len(log) - 1)
    counts = np.bincount(log.user)
    asked = sample(lasts[counts >= _HISTORY], _ASKED, seed)
    histories = [
        [item_ids[item] for item in log.item[last + 1 - _HISTORY : last + 1].tolist()]
        for last in asked.tolist()
    ]
    (made / HISTORIES).write_text(json.dumps(histories))
    return made


def _fitted(
    log: InteractionLog,
    item_ids: list[str],
    attributes: dict[str, dict[str, object]],
    seed: int,
) -> Bundle:
    descriptions = describe(item_ids, attributes)
    parameters = RetrieverParameters()
    parameters = replace(parameters, ease=replace(parameters.ease, max_items=_EASE_ITEMS))
    split = time_split(log.user, log.timestamp, 0.1)
    training = log.select(split.training)
    content = fit_content(descriptions)
    retrievers = fit_retrievers(training, parameters, content, repeats=True)
    network = TransformerParameters(window=_HISTORY, epochs=1, batch=4_000, negatives=1_000)
    some = training.select(np.arange(min(_NETWORK_EVENTS, len(training))))
    retrievers |= learn_again(
        some, network, NETWORKS[:1], terms=item_terms(descriptions), seed=seed
    )
    bundle = Bundle(
        new_manifest(log, f"simulated-{len(item_ids)}", "fast", seed, parameters),
        item_ids,
        retrievers,
        initial_blend([retriever.logarithmic for retriever in retrievers.values()]),
        repeats=True,
        attributes=attributes,
    )
    rows = sample(split.test, _RANKING_QUERIES, seed)
    table = item_table(training, item_ids, attributes)
    return fit_ranking(bundle, encoding.queries(log, rows), log.user[rows], table, seed)[0]


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
