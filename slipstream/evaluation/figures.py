"""The report on a recommender: every metric with its interval, for all queries and each cohort.

Cohorts are of queries, by the events known of their visitor and their item. A mean over all queries
hides those that are hard to serve: newcomers, of whom little is known (the cold start of A. I.
Schein et al., "Methods and Metrics for Cold-Start Recommendations", SIGIR 2002), and items that few
have met.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slipstream.evaluation import metrics
from slipstream.evaluation.metrics import Lists, Ranks
from slipstream.evaluation.significance import Interval, bootstrap_mean

# Length of the judged lists.
K = 10
# Length of the list in which MRR looks for the next item.
DEPTH = 20


@dataclass(frozen=True)
class Past:
    """The events before the queries: visitors numbered from 0, and indices of `n_items` items."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    n_items: int

    def counts(self) -> NDArray[np.int64]:
        """The number of events of each item."""
        return np.bincount(self.items, minlength=self.n_items)


@dataclass(frozen=True)
class Figures:
    """The figures of one recommender on `queries` queries.

    `means` have 95 % bootstrap intervals over the queries. `totals` are about all lists together
    and have none.
    """

    queries: int
    means: dict[str, Interval]
    totals: dict[str, float]

    def values(self) -> dict[str, float]:
        """The figures by name, the number of queries among them."""
        return (
            {name: mean.value for name, mean in self.means.items()}
            | self.totals
            | {"queries": float(self.queries)}
        )


def figures(
    ranks: Ranks, shown: Lists, past: Past, cohorts: Mapping[str, NDArray[np.bool_]], seed: int = 0
) -> dict[str, Figures]:
    """The figures of each cohort, see `slipstream.evaluation.figures`. Ranks and lists are as
    `metrics` has them. Cohorts are masks over the queries, by name.
    """
    lists, counts = shown[:, :K], past.counts()
    values = {
        f"hit_rate@{K}": metrics.hit_rate(ranks, K),
        f"ndcg@{K}": metrics.ndcg(ranks, K),
        f"map@{K}": metrics.mrr(ranks, K),  # with one relevant item it is the same
        f"mrr@{DEPTH}": metrics.mrr(ranks, DEPTH),
        f"novelty@{K}": metrics.novelty(lists, counts),
        f"diversity@{K}": metrics.diversity(lists, past.users, past.items, past.n_items),
        f"long_tail@{K}": metrics.long_tail(lists, counts),
    }
    return {
        name: Figures(
            int(mask.sum()),
            {metric: bootstrap_mean(value[mask], seed) for metric, value in values.items()},
            {
                f"coverage@{K}": metrics.coverage(lists[mask], past.n_items),
                f"gini@{K}": metrics.gini(lists[mask], past.n_items),
            },
        )
        for name, mask in cohorts.items()
    }


ALL: Final = "all"
NEW: Final = "new"
RETURNING: Final = "returning"
COLD: Final = "cold"
# Of queries that are a visitor's first event on an item: it then went into the cart or was bought.
LED_ON: Final = "led_on"

# Most events of a new visitor.
NEW_EVENTS: Final = 2
# Most events of a cold item.
COLD_EVENTS: Final = 4


def cohorts(
    history_events: NDArray[np.int64], label_events: NDArray[np.int64]
) -> Mapping[str, NDArray[np.bool_]]:
    """Masks over the queries by cohort, `all` first; empty cohorts are left out.

    `new` and `returning` divide the visitors; `cold` items may be the target of both. Events are
    those of each query's visitor, and of its next item, before any query.
    """
    found = {
        ALL: np.ones(len(history_events), np.bool_),
        NEW: history_events <= NEW_EVENTS,
        RETURNING: history_events > NEW_EVENTS,
        COLD: label_events <= COLD_EVENTS,
    }
    return {name: mask for name, mask in found.items() if mask.any()}
