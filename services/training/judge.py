"""How good is a bundle: what it would have recommended at moments of the past, through the stages that serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.training.dataset import Moment
from services.training.gate import Comparison
from slipstream.evaluation.metrics import UNRANKED, coverage, hit_rate, mrr, ndcg
from slipstream.evaluation.significance import bootstrap_difference
from slipstream.models.blend import initial_blend
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event, recommend

DEPTH = 20
"""How many items are asked for."""


@dataclass(frozen=True)
class Judged:
    """One bundle's answers, one entry a query. `shown` has catalogue indices, -1 where the list was shorter."""

    ranks: NDArray[np.int64]
    shown: NDArray[np.int32]
    n_items: int

    def metrics(self) -> dict[str, float]:
        """Means over the queries."""
        return {
            "hit_rate@10": float(hit_rate(self.ranks, 10).mean()),
            "ndcg@10": float(ndcg(self.ranks, 10).mean()),
            "mrr@20": float(mrr(self.ranks, DEPTH).mean()),
            "coverage@10": coverage(self.shown[:, :10], self.n_items),
        }


def judge(bundle: Bundle, queries: Sequence[Moment], step: Callable[[], None] = lambda: None) -> Judged:
    """Ask the bundle for each moment's next item. Its whole catalogue competes; an item that it does not know is a miss."""
    ranks = np.full(len(queries), UNRANKED, np.int64)
    shown = np.full((len(queries), DEPTH), -1, np.int32)
    for place, query in enumerate(queries):
        history = [Event(*event) for event in query.state.sequence]
        found = [one.item_id for one in recommend(bundle, history, DEPTH)]
        shown[place, : len(found)] = [bundle.index[item_id] for item_id in found]
        if query.item_id in found:
            ranks[place] = found.index(query.item_id)
        step()
    return Judged(ranks, shown, len(bundle.item_ids))


def popularity_of(bundle: Bundle) -> Bundle:
    """The bundle's popularity alone: the least that a personal model must reach."""
    popularity = bundle.retrievers["popularity"]
    return replace(bundle, retrievers={"popularity": popularity}, blend=initial_blend([popularity.logarithmic]))


def compare(challenger: Judged, other: Judged, keep: NDArray[np.bool_], seed: int) -> Comparison:
    """The two on the same queries, those of the mask."""
    ours, theirs = (ndcg(one.ranks[keep], 10) for one in (challenger, other))
    if not len(ours):
        raise ValueError("there is no query to compare on")
    return Comparison(len(ours), float(ours.mean()), float(theirs.mean()), bootstrap_difference(ours, theirs, seed))
