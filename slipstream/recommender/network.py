"""The network among the retrievers, which takes most of the time of a fit.

It is trained until validation says that it is enough, or after a search for better parameters, and
then trained further on everything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.contracts.bundle import LearningCurve
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.base import Dense, InteractionLog
from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.search import Trial, search
from slipstream.recommender.tuning import mean_gain

if TYPE_CHECKING:  # torch is imported only where a network is trained
    from scipy import sparse

    from slipstream.models.transformer_fit import TransformerFit
    from slipstream.models.transformer_training import Epoch

NETWORK = "transformer"
_STOPPING_QUERIES = 2_000
_TRAINING = "training the network"


@dataclass(frozen=True)
class NetworkTraining:
    """Result of training the network.

    Attributes:
        model: The network; None where no epoch was any good, or where there was too little data.
        parameters: Parameters that it was trained with.
        curve: Loss and validation quality by epoch; None where nothing was trained.
        trials: Trials of the search, where there was one.
        goes_on: Whether it was trained further from an earlier network.
    """

    model: Transformer | None
    parameters: TransformerParameters
    curve: LearningCurve | None
    trials: list[Trial]
    goes_on: bool = False


def can_learn(log: InteractionLog, fewest: int) -> bool:
    """Whether the log has `fewest` events, and a visitor with two: a sequence to learn from."""
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
    """The network after the epoch that ranks the validation items best.

    Args:
        log: Events to train on.
        validation: Queries that say which epoch is best; without any, all epochs are trained.
        defaults: Parameters of the profile.
        parameters: Parameters to train with, or to begin a search with.
        repeats: Whether items of the history compete in validation.
        terms: Terms of the items, (items, terms).
        start: Network to train further; a search trains each trial from the beginning instead.
        checkpoints: Directory of the state of an interrupted training, or of a search after its
            last trial: a trial itself must report each of its epochs.
        search_s: Seconds to try `parameters`, `defaults` and others; 0, or no validation, is no
            search.
        seed: Seed of training and search.
        progress: Gets each epoch, and the share done within one.
    """
    searching = search_s > 0
    ended: list[Epoch] = []

    def train(
        tried: TransformerParameters,
        on_epoch: "Callable[[Epoch], None]",
        start: Transformer | None = None,
    ) -> "TransformerFit":
        return _train(
            log,
            tried,
            validation,
            repeats=repeats,
            terms=terms,
            start=start,
            progress=on_epoch,
            underway=underway,
            checkpoints=None if searching else checkpoints,
            seed=seed,
        )

    def on_epoch(epoch: "Epoch") -> None:
        ended.append(epoch)
        progress(ProgressStep(_TRAINING, epoch.epoch / epoch.epochs, 1.0, *epoch[:3]))

    def underway(done: float) -> None:
        if not searching:  # the progress of a search is its time
            progress(ProgressStep(_TRAINING, done, 1.0, *ended[-1][:3] if ended else ()))

    progress(ProgressStep(_TRAINING, 0.0))
    trials: list[Trial] = []
    goes_on = start is not None and not (searching and validation)
    if searching and validation:
        from slipstream.models.transformer_fit import digest
        from slipstream.recommender.search_checkpoint import SearchCheckpoint

        arrays = (log.user, log.item, log.timestamp, log.weight)
        checkpoint = SearchCheckpoint(
            checkpoints / "search.npz" if checkpoints else None,
            digest((defaults, parameters, search_s, seed), *arrays),
        )
        network, parameters, trials = search(
            train,
            defaults,
            parameters,
            log.n_items,
            search_s,
            seed=seed,
            kept=checkpoint.read(),
            keep=checkpoint.write,
            progress=progress,
        )
    else:
        network = train(parameters, on_epoch, start)
    curve = LearningCurve(
        kept=network.epochs,
        loss=[epoch.loss for epoch in network.curve],
        quality=[epoch.quality for epoch in network.curve],
    )
    model = network.model if network.epochs else None
    return NetworkTraining(model, parameters, curve, trials, goes_on)


def go_on(
    network: Transformer,
    log: InteractionLog,
    parameters: TransformerParameters,
    *,
    terms: "sparse.csr_array[Any, Any] | None",
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Transformer:
    """The network after `parameters.further` epochs on a log with events that are new to it.

    Args:
        network: Network to train further.
        log: Events to train on.
        parameters: Parameters that the network was trained with.
        terms: Terms of the items, (items, terms).
        seed: Seed of the training.
        progress: Gets the share of the epochs that is done.
    """
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
) -> "TransformerFit":
    from slipstream.models.transformer_fit import fit_transformer

    step = max(1, len(validation) // _STOPPING_QUERIES)
    # Histories of like length, so that a batch of them needs little padding.
    queries = sorted(validation[::step], key=lambda query: len(query.history.item))

    def quality(dense: Dense) -> float:
        return mean_gain(dense, queries, repeats=repeats)

    return fit_transformer(log, parameters, quality=quality if queries else None, **more)


def earlier_network(
    bundle: Bundle | None, item_ids: Sequence[str], dim: int, asked_from: int
) -> Transformer | None:
    """The network of an earlier bundle, its items in the places of the present catalogue.

    None where its vectors are not of length `dim`. None, too, where the bundle was fitted on events
    of `asked_from` (ms) or later, when the validation begins: training would stop too late, and the
    blend would weigh the network too much.
    """
    network = bundle.retrievers.get(NETWORK) if bundle else None
    if bundle is None or not isinstance(network, Transformer) or network.items.rows.shape[1] != dim:
        return None
    until = bundle.manifest.data.until
    if until is None or until >= asked_from:
        return None
    return network.rearranged([bundle.index.get(item_id, -1) for item_id in item_ids])
