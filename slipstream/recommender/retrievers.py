"""The retrievers of a bundle, fitted by parameters that were chosen before; and the network among them, which takes longest."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.models.base import Dense, InteractionLog, Retriever
from slipstream.models.ease import fit_ease
from slipstream.models.popularity import fit_popularity
from slipstream.models.revisits import revisits
from slipstream.models.rules import fit_rules
from slipstream.models.sessions import fit_sessions
from slipstream.models.transformer import Transformer
from slipstream.models.transformer_parameters import TransformerParameters
from slipstream.recommender.encoding import Query
from slipstream.recommender.tuning import Tuned, mean_gain

if TYPE_CHECKING:  # torch is imported only where a network is trained
    from scipy import sparse

    from slipstream.models.transformer_fit import Epoch, Fitted

NETWORK = "transformer"
_STOPPING_QUERIES = 2_000


def fit_retrievers(
    log: InteractionLog,
    tuned: Tuned,
    content: Retriever | None,
    *,
    repeats: bool,
    names: Collection[str] = ("popularity", "rules", "sessions", "ease", "content", "revisits"),
) -> dict[str, Retriever]:
    """Those of `names`, but the network; content where there is any, and revisits where visitors come back to what they had."""
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


def train_network(
    log: InteractionLog,
    parameters: TransformerParameters,
    validation: Sequence[Query],
    *,
    repeats: bool,
    terms: "sparse.csr_array[Any, Any] | None",
    start: Transformer | None = None,
    progress: "Callable[[Epoch], None]" = lambda _: None,
    checkpoints: Path | None = None,
    seed: int = 0,
) -> "Fitted":
    """The network after the epoch that ranks the validation items best; without validation after all epochs."""
    from slipstream.models.transformer_fit import fit_transformer

    step = max(1, len(validation) // _STOPPING_QUERIES)
    # Histories of like length, so that a batch of them is hardly filled up.
    asked = sorted(validation[::step], key=lambda query: len(query.history.item))

    def quality(dense: Dense) -> float:
        return mean_gain(dense, asked, repeats=repeats)

    return fit_transformer(
        log,
        parameters,
        terms=terms,
        start=start,
        quality=quality if asked else None,
        progress=progress,
        checkpoints=checkpoints,
        seed=seed,
    )


def go_on(
    network: Transformer,
    log: InteractionLog,
    parameters: TransformerParameters,
    *,
    terms: "sparse.csr_array[Any, Any] | None",
    seed: int,
) -> Transformer:
    """The network after some more epochs on a log that has events which it has not seen."""
    further = replace(parameters, epochs=parameters.further, decay=True)
    return train_network(log, further, (), repeats=True, terms=terms, start=network, seed=seed).model


def can_learn(log: InteractionLog, fewest: int) -> bool:
    """Whether there are sequences enough for a network."""
    return len(log) >= fewest and bool(np.any(log.user[1:] == log.user[:-1]))
