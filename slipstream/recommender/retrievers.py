"""The retrievers of a bundle, except its network, fitted by parameters chosen before."""

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
    parameters: RetrieverParameters,
    content: Retriever | None,
    *,
    repeats: bool,
    names: Collection[str] = ("popularity", "rules", "sessions", "ease", "content", "revisits"),
) -> dict[str, Retriever]:
    """The fitted retrievers of these names, in a fixed order.

    Args:
        log: Events to fit on.
        parameters: Parameters of the retrievers.
        content: The retriever by content, which does not depend on events; None where no item has
            attributes.
        repeats: Whether visitors come back to items; without it, there is no retriever of revisits.
        names: Names of the retrievers to fit.
    """
    fits: dict[str, Callable[[], Retriever | None]] = {
        "popularity": lambda: fit_popularity(log, parameters.popularity_half_life_ms),
        "rules": lambda: fit_rules(log, parameters.rules),
        "sessions": lambda: fit_sessions(log, parameters.sessions),
        "ease": lambda: fit_ease(log, parameters.ease),
        "content": lambda: content,
        "revisits": lambda: revisits(log.n_items) if repeats else None,
    }
    fitted = {name: fit() for name, fit in fits.items() if name in names}
    return {name: retriever for name, retriever in fitted.items() if retriever is not None}
