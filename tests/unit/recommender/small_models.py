"""A model with every kind of retriever, of random numbers, for the tests of the kernels."""

import numpy as np
from scipy import sparse

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.models.base import History, InteractionLog, Retriever
from slipstream.models.blend import Blend
from slipstream.models.nearest import Nearest
from slipstream.models.neighbours import HistoryWeighting, ItemToItem, revisits
from slipstream.models.popularity import fit_popularity
from slipstream.models.ranker import Ranker
from slipstream.models.sessions import SessionsParameters, fit_sessions
from slipstream.models.transformer import BUCKETS, Shape, Transformer
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.ranking_features import ItemTable, Ranking
from tests.unit.models.logs import log_of

ITEMS = 300
_DIM, _HEADS, _BLOCKS, _HIDDEN = 16, 2, 2, 21


def small_bundle(seed: int = 0, *, clusters: int = 0, ranks: bool = True) -> Bundle:
    """A bundle of `ITEMS` items; the network's are in so many clusters, or compared whole."""
    random = np.random.default_rng(seed)
    sequences = [random.integers(0, ITEMS, random.integers(2, 80)).tolist() for _ in range(150)]
    log = log_of(sequences, ITEMS)
    retrievers: dict[str, Retriever] = {
        "popularity": fit_popularity(log),
        "rules": _votes(random, HistoryWeighting(position_exponent=0.75, half_life_ms=86_400_000)),
        "sessions": _sessions(log, half_life=0.5),
        "many": _sessions(log, neighbours=5, length_exponent=0.3, rarity=0.0),
        "ease": ItemToItem.full(
            random.normal(size=(ITEMS, ITEMS)).astype(np.float32),
            HistoryWeighting(by_event=False, max_events=17),
            logarithmic=False,
        ),
        "revisits": revisits(ITEMS),
        "transformer": _network(random, clusters),
    }
    size = len(retrievers)
    # Small, so that next to nothing is still told from nothing.
    floors = np.where([one.logarithmic for one in retrievers.values()], 1e-7, -1)
    weights = random.uniform(0.1, 1, size)
    weights[4] = 0.05  # the linear one's scores are large
    return Bundle(
        Manifest(
            version="small", created_at=0, profile="fast",
            data=DataSummary(visitors=150, items=ITEMS, events=len(log)),
        ),
        [f"i{item}" for item in range(ITEMS)],
        retrievers,
        Blend(weights.astype(np.float32), floors.astype(np.float32)),
        _ranking(random, size) if ranks else None,
    )  # fmt: skip


def histories(count: int, seed: int = 1) -> list[History]:
    """Histories of no event to 120, with repeats and pauses of all lengths."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        length = (0, 1, 2, 120)[number] if number < 4 else int(random.integers(1, 100))
        item = random.integers(0, ITEMS, length).astype(np.int32)
        if length > 6:
            item[-3] = item[-1]
        weight = random.choice([0.5, 1.0, 2.0, 3.0], length).astype(np.float32)
        pause = 10.0 ** random.uniform(0, 10, length)
        found.append(History(item, weight, np.cumsum(pause).astype(np.int64)))
    return found


def _votes(random: np.random.Generator, weighting: HistoryWeighting) -> ItemToItem:
    matrix = sparse.random_array((ITEMS, ITEMS), density=0.05, rng=random, dtype=np.float32)
    return ItemToItem.of(sparse.csr_array(matrix), weighting)


def _sessions(log: InteractionLog, **parameters: float) -> Retriever:
    return fit_sessions(log, SessionsParameters(**{"recent": 30, **parameters}))  # type: ignore[arg-type]


def _network(random: np.random.Generator, clusters: int) -> Transformer:
    shapes = {
        "qkv": (_BLOCKS, 3 * _DIM, _DIM), "attention_gate": (_BLOCKS, _DIM, _DIM),
        "out": (_BLOCKS, _DIM, _DIM), "feed_gate": (_BLOCKS, _DIM, _DIM),
        "up": (_BLOCKS, 2 * _HIDDEN, _DIM), "down": (_BLOCKS, _DIM, _HIDDEN),
        "attention_norm": (_BLOCKS, _DIM), "attention_gate_bias": (_BLOCKS, _DIM),
        "feed_norm": (_BLOCKS, _DIM), "feed_gate_bias": (_BLOCKS, _DIM), "norm": (_DIM,),
        "distance": (_BLOCKS, _HEADS, BUCKETS), "gap": (_BLOCKS, _HEADS, BUCKETS),
        "kinds": (3, _DIM),
    }  # fmt: skip
    weights = {
        name: (random.normal(size=shape) / 3).astype(np.float32) for name, shape in shapes.items()
    }
    vectors = (random.normal(size=(ITEMS, _DIM)) / 3).astype(np.float32)
    nearest = Nearest.compared_whole(vectors)
    if clusters:
        of_item = random.integers(0, clusters, ITEMS)
        items = np.argsort(of_item, kind="stable").astype(np.int32)
        nearest = Nearest.of_clusters(
            vectors[items],
            items,
            np.argsort(items).astype(np.int32),
            random.normal(size=(clusters, _DIM)).astype(np.float32),
            np.cumsum(np.bincount(of_item, minlength=clusters)).astype(np.int64),
        )
    return Transformer(weights, nearest, Shape(window=50, heads=_HEADS, kinds=(0.5, 1.0, 2.0)))


def _ranking(random: np.random.Generator, retrievers: int) -> Ranking:
    numbers = random.normal(size=(ITEMS, 4)).astype(np.float32)
    codes = random.integers(-1, 6, (2, ITEMS)).astype(np.int32)
    price = np.maximum(random.normal(size=ITEMS), 0).astype(np.float32)
    features, hidden = 2 * retrievers + 4 + 2 + 6, 5
    return Ranking(
        Ranker(
            random.normal(size=features).astype(np.float32),
            random.uniform(0.1, 1, features).astype(np.float32),
            random.normal(size=(features, hidden)).astype(np.float32),
            random.normal(size=hidden).astype(np.float32),
            (random.normal(size=hidden) / 3).astype(np.float32),
        ),
        ItemTable(numbers, codes, price),
    )
