"""The network among the retrievers, which takes longest: trained until validation says that it is
enough, or after a search for better parameters of it; and gone on with on everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.base import Dense, InteractionLog
from slipstream.models.transformer import Transformer
from slipstream.models.transformer_parameters import TransformerParameters
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.search import Trial, search
from slipstream.recommender.tuning import mean_gain

if TYPE_CHECKING:  # torch is imported only where a network is trained
    from scipy import sparse

    from slipstream.models.transformer_fit import Epoch, Fitted

NETWORK = "transformer"
_STOPPING_QUERIES = 2_000
_TRAINING = "training the network"


@dataclass(frozen=True)
class NetworkTraining:
    """`model` is None where no epoch was any good; `curve` has the loss and the validation quality
    of each, and how many were kept; `trials` is what a search has tried.
    """

    model: Transformer | None
    parameters: TransformerParameters
    curve: dict[str, Any]
    trials: list[Trial]


def can_learn(log: InteractionLog, fewest: int) -> bool:
    """Whether there are sequences enough for a network."""
    return len(log) >= fewest and bool(np.any(log.user[1:] == log.user[:-1]))


def learn(
    log: InteractionLog,
    validation: Sequence[Query],
    defaults: TransformerParameters,
    parameters: TransformerParameters,
    *,
    repeats: bool,
    terms: "sparse.csr_array[Any, Any] | None",
    start: Transformer | None = None,
    checkpoints: Path | None = None,
    search_s: float = 0.0,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> NetworkTraining:
    """The network after the epoch that ranks the validation items best; without validation after
    all epochs.

    It is trained by `parameters`, from `start` where there is one; or, for `search_s` seconds,
    where there are any and validation too, by these, the profile's `defaults` and others, each from
    the beginning.
    """

    def train(
        own: TransformerParameters,
        learned: "Callable[[Epoch], None]",
        start: Transformer | None = None,
    ) -> "Fitted":
        # A trial must tell of each of its epochs.
        kept = None if search_s > 0 else checkpoints
        return _train(
            log, own, validation, repeats=repeats, terms=terms, start=start, progress=learned, underway=underway,
            checkpoints=kept, seed=seed,
        )  # fmt: skip

    def learned(epoch: "Epoch") -> None:
        ended.append(epoch)
        progress(ProgressStep(_TRAINING, epoch.epoch / epoch.epochs, 1.0, *epoch[:3]))

    def underway(done: float) -> None:
        if search_s <= 0:  # else time says how far it is
            progress(ProgressStep(_TRAINING, done, 1.0, *ended[-1][:3] if ended else ()))

    ended: list[Epoch] = []
    trials: list[Trial] = []
    progress(ProgressStep(_TRAINING, 0.0))
    if search_s > 0 and validation:
        network, parameters, trials = search(
            train, defaults, parameters, log.n_items, search_s, seed=seed, progress=progress
        )
    else:
        network = train(parameters, learned, start)
    curve = {
        "kept": network.epochs,
        "loss": [one.loss for one in network.curve],
        "quality": [one.quality for one in network.curve],
    }
    return NetworkTraining(network.model if network.epochs else None, parameters, curve, trials)


def go_on(
    network: Transformer,
    log: InteractionLog,
    parameters: TransformerParameters,
    *,
    terms: "sparse.csr_array[Any, Any] | None",
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Transformer:
    """The network after some more epochs on a log that has events which it has not seen."""
    further = replace(parameters, epochs=parameters.further, decay=True)

    def underway(done: float) -> None:
        progress(ProgressStep("fitting on everything", done))

    return _train(
        log, further, (), repeats=True, terms=terms, start=network, underway=underway, seed=seed
    ).model


def _train(
    log: InteractionLog,
    parameters: TransformerParameters,
    validation: Sequence[Query],
    *,
    repeats: bool,
    **more: Any,
) -> "Fitted":
    from slipstream.models.transformer_fit import fit_transformer

    step = max(1, len(validation) // _STOPPING_QUERIES)
    # Histories of like length, so that a batch of them is hardly filled up.
    asked = sorted(validation[::step], key=lambda query: len(query.history.item))

    def quality(dense: Dense) -> float:
        return mean_gain(dense, asked, repeats=repeats)

    return fit_transformer(log, parameters, quality=quality if asked else None, **more)


def earlier_network(
    bundle: Bundle | None, item_ids: Sequence[str], dim: int, asked_from: int
) -> Transformer | None:
    """The network of an earlier bundle, its items in the places that they have now; None where it
    has vectors of another length, or may have seen what is asked at `asked_from` or later: it would
    be stopped too late, and listened to too much.
    """
    network = bundle.retrievers.get(NETWORK) if bundle else None
    if bundle is None or not isinstance(network, Transformer) or network.items.rows.shape[1] != dim:
        return None
    until = bundle.manifest.data.until
    if until is None or until >= asked_from:
        return None
    return network.rearranged([bundle.index.get(item_id, -1) for item_id in item_ids])
