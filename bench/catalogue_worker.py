"""The stages of a bundle in a process of its own: processor times, recall, memory.

Imports what a worker of serving imports, and no more, since that is part of its memory. A further
worker is forked first, and asked last. A request's time is the least processor time of several
rounds, since other programs' turns say nothing about the stages.
"""

import gc
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped, unused-ignore]

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.models.base import Mask
from slipstream.models.kernels import lists
from slipstream.models.kernels.compiler import prepare
from slipstream.models.nearest import Nearest
from slipstream.models.transformer import Transformer
from slipstream.recommender.bundle import Bundle, load_bundle
from slipstream.recommender.network import NETWORKS
from slipstream.recommender.stages import CANDIDATES, Event, encode_history, recommend
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.growing import map_rooms, write_rooms
from slipstream.slates.catalogue.model import Model

# Names within a model's folder.
HISTORIES = "histories.json"
BUNDLE = "bundle"
_ITEMS = "catalogue.items"
LENGTH = 10
KEPT = 0.001
RECALLED = 10
_ROUNDS = 3
_RECALL_QUERIES = 100


@dataclass(frozen=True)
class CatalogueFigures:
    """Figures of one catalogue.

    Attributes:
        plain: Milliseconds of each request.
        filtered: The same under a filter that keeps `KEPT` of the items, but `LENGTH` at least.
        short: Filtered lists that are not full.
        recall: Share of the network's exact best that its search finds, of the best `RECALLED`
            and of the best `CANDIDATES`.
        kept: Share of a list's items that are also in the list of a search through all items.
        private_mb: Memory that each worker has for itself once it has answered.
        mapped_mb: Resident part of the bundle's files, which all workers share.
        catalogue_mb: What the catalogue's items and attributes add to `private_mb`.
        further_mb: Private memory of a further worker with bundle and catalogue.
    """

    plain: NDArray[np.float64]
    filtered: NDArray[np.float64]
    short: int
    recall: tuple[float, float]
    kept: float
    private_mb: float
    mapped_mb: float
    catalogue_mb: float
    further_mb: float


def measure(made: Path, seed: int = 0) -> CatalogueFigures:
    """Figures of the model in a folder of `simulated_model`."""
    prepare(lists.recommend, lists.RECOMMEND)
    gc.collect()
    gc.freeze()
    forked = multiprocessing.get_context("fork")
    further, its_end = forked.Pipe()
    forked.Process(target=_further, args=(its_end, made), daemon=True).start()
    bundle, histories = load_bundle(made / BUNDLE), _histories(made)
    size = len(bundle.item_ids)
    kept = np.random.default_rng(seed).permutation(size)[: max(LENGTH, int(KEPT * size))]
    mask = np.zeros(size, np.bool_)
    mask[kept] = True
    with threadpool_limits(1):
        plain, _ = _times(bundle, histories, None)
        filtered, short = _times(bundle, histories, mask)
        private, mapped = _memory_mb(made)
        recall = _recall(bundle, histories)
        same = _kept(bundle, histories)
    before, _ = _memory_mb(made)
    catalogue = Catalog()
    _fill(catalogue, bundle)
    write_rooms(made / _ITEMS, catalogue.rooms()[0], "bench")
    _restore(catalogue := Catalog(), made)
    added = _memory_mb(made)[0] - before
    further.send(len(catalogue))
    return CatalogueFigures(
        plain, filtered, short, recall, same, private, mapped, added, further.recv()
    )


def _histories(made: Path) -> list[list[Event]]:
    return [
        [Event(item_id, "view", 60_000 * at) for at, item_id in enumerate(history)]
        for history in json.loads((made / HISTORIES).read_text())
    ]


def _restore(catalogue: Catalog, made: Path) -> None:
    found = map_rooms(made / _ITEMS)
    assert found is not None and catalogue.restore(found[1])  # noqa: S101


def _further(asked: Connection, made: Path) -> None:
    """Do what a further worker does once the first one has the catalogue, and send its memory."""
    asked.recv()
    catalogue, model = Catalog(), Model("further", load_bundle(made / BUNDLE), made / BUNDLE, 0)
    _restore(catalogue, made)
    catalogue.space(model)
    _times(model.bundle, _histories(made), None)
    gc.collect()
    own = 0
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Private_Clean", "Private_Dirty"):
            own += int(value.split()[0])
    asked.send(own / 1024)


def _times(
    bundle: Bundle, histories: Sequence[Sequence[Event]], mask: Mask | None
) -> tuple[NDArray[np.float64], int]:
    """The least milliseconds of each request, and the number of lists that are not full."""
    least = np.full(len(histories), np.inf)
    short = 0
    for _ in range(_ROUNDS):
        short = 0
        for row, history in enumerate(histories):
            began = time.thread_time_ns()
            items = recommend(bundle, history, LENGTH, allowed=mask, repeats=True)
            least[row] = min(least[row], (time.thread_time_ns() - began) / 1e6)
            short += len(items) < LENGTH
    return least, short


def _recall(bundle: Bundle, histories: Sequence[Sequence[Event]]) -> tuple[float, float]:
    network = bundle.retrievers.get(NETWORKS[0])
    if not isinstance(network, Transformer):
        return 1.0, 1.0
    everything = np.arange(len(bundle.item_ids), dtype=np.int32)
    vectors = network.items.vectors(everything)
    found: list[list[float]] = []
    for history in histories[:_RECALL_QUERIES]:
        encoded = encode_history(bundle, history)
        logits = vectors @ network.state(encoded)
        exact = np.argpartition(-logits, min(CANDIDATES, len(logits) - 1))[:CANDIDATES]
        exact = exact[np.argsort(-logits[exact])]
        scored = network.score(encoded)
        found.append(
            [
                np.isin(exact[:k], network.propose(scored, k, None)).mean()
                for k in (RECALLED, CANDIDATES)
            ]
        )
    few, many = np.mean(found, axis=0).tolist()
    return few, many


def _kept(bundle: Bundle, histories: Sequence[Sequence[Event]]) -> float:
    network = bundle.retrievers.get(NETWORKS[0])
    if not isinstance(network, Transformer) or not len(network.items.centres):
        return 1.0
    index = network.items
    one_cluster = Nearest.of_clusters(
        index.rows,
        index.items,
        index.place,
        index.rows.mean(axis=0, keepdims=True),
        np.array([len(index.rows)]),
    )
    searched = Transformer(network.weights, one_cluster, network.shape)
    exact = replace(bundle, retrievers={**bundle.retrievers, NETWORKS[0]: searched})
    found = []
    for history in histories[:_RECALL_QUERIES]:
        lists = [
            {item.item_id for item in recommend(one, history, LENGTH, repeats=True)}
            for one in (bundle, exact)
        ]
        found.append(len(lists[0] & lists[1]) / LENGTH)
    return float(np.mean(found))


def _fill(catalogue: Catalog, bundle: Bundle) -> Catalog:
    for number, item_id in enumerate(bundle.item_ids):
        record = CatalogRecord(
            entity="item",
            entity_id=item_id,
            timestamp=0,
            attributes=dict((bundle.attributes or {}).get(item_id, {})),
        )
        catalogue.apply(StreamCatalogRecord("bench:0", number, record))
    return catalogue


def _memory_mb(made: Path) -> tuple[float, float]:
    """Resident memory of this process apart from a folder's files, and of these; in MiB.

    Read from /proc, so on Linux alone.
    """
    private, mapped, in_folder = 0, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in name and " " in name:  # the head of a mapping: its range, rights and file
            in_folder = str(made) in line
        elif name == "Rss":
            size = int(value.split()[0])
            mapped, private = mapped + in_folder * size, private + (not in_folder) * size
    return private / 1024, mapped / 1024
