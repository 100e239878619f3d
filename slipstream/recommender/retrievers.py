"""The retrievers of a bundle but its network, fitted by parameters that were chosen before."""

from collections.abc import Callable, Collection

from slipstream.models.base import InteractionLog, Retriever
from slipstream.models.ease import fit_ease
from slipstream.models.popularity import fit_popularity
from slipstream.models.revisits import revisits
from slipstream.models.rules import fit_rules
from slipstream.models.sessions import fit_sessions
from slipstream.recommender.tuning import RetrieverParameters


def fit_retrievers(
    log: InteractionLog,
    tuned: RetrieverParameters,
    content: Retriever | None,
    *,
    repeats: bool,
    names: Collection[str] = ("popularity", "rules", "sessions", "ease", "content", "revisits"),
) -> dict[str, Retriever]:
    """Those of `names`; content where there is any, and revisits where visitors come back to what
    they had.
    """
    fits: dict[str, Callable[[], Retriever | None]] = {
        "popularity": lambda: fit_popularity(log, tuned.popularity_half_life_ms),
        "rules": lambda: fit_rules(log, tuned.rules),
        "sessions": lambda: fit_sessions(log, tuned.sessions),
        "ease": lambda: fit_ease(log, tuned.ease),
        "content": lambda: content,
        "revisits": lambda: revisits(log.n_items) if repeats else None,
    }
    found = {name: fit() for name, fit in fits.items() if name in names}
    return {name: retriever for name, retriever in found.items() if retriever is not None}
