"""Models of simulated catalogues, fitted briefly: their size is that of real ones, not their skill.

The events are those of `slipstream simulate`. Parameters are not tuned, EASE is solved for few
items, and the network reads each of some events once. Its vectors are clustered nevertheless, since
items of one category or brand share the vectors of these terms.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from slipstream.datasets.interactions import read_interactions, read_items
from slipstream.datasets.simulator import Simulation, simulate
from slipstream.evaluation.splits import time_split
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.models.blend import initial_blend
from slipstream.models.content import fit_content
from slipstream.models.transformer import TransformerParameters
from slipstream.models.transformer_fit import fit_transformer
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle, save_bundle
from slipstream.recommender.holdout import sample
from slipstream.recommender.network import NETWORK
from slipstream.recommender.ranking import fit_ranking
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.refit import describe, item_terms, new_manifest
from slipstream.recommender.tuning import RetrieverParameters, fit_retrievers
from slipstream_cli.benchmarks.catalogue_worker import BUNDLE, HISTORIES

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
        items: Number of items.
        seed: Seed of the simulation and of the fit.

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
    retrievers[NETWORK] = fit_transformer(
        some, network, terms=item_terms(descriptions), seed=seed
    ).model
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
