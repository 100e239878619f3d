"""The networks among the retrievers, which take most of the time of a fit.

They differ by their seed alone, and the blend's product of both is better than either (B.
Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles", NeurIPS 2017). Each is trained until validation says that it is enough; the first one
perhaps after a search for better parameters. For service they are trained once more from the
beginning, on everything, for as many epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from slipstream.contracts.bundle import LearningCurve
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.base import Dense, InteractionLog
from slipstream.models.content import FittedTerms
from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.recommender.encoding import Query
from slipstream.recommender.search import Trial, search
from slipstream.recommender.tuning import mean_gain

if TYPE_CHECKING:  # torch is imported only where a network is trained
    from slipstream.models.distributed import Pace
    from slipstream.models.transformer_fit import TransformerFit
    from slipstream.models.transformer_training import Epoch

# Names of the networks among the retrievers. A profile has the first, or both.
NETWORKS: Final = ("transformer", "transformer-2")
_TRAINING = "training the network"
# Events from which an epoch takes about as long as the start of a process.
_WORTH_A_PROCESS = 20_000


class TrainingData(NamedTuple):
    """Events to train on, and the terms of their items, with their names; None without any."""

    log: InteractionLog
    terms: FittedTerms | None


@dataclass(frozen=True)
class NetworkTraining:
    """Result of training the networks.

    Attributes:
        models: The networks by name; none where no epoch was any good, or where there was too
            little data.
        parameters: Parameters that they were trained with; `epochs` are those of the first one's
            best weights.
        curve: The first one's loss and validation quality by epoch; None where nothing was trained.
    """

    models: dict[str, Transformer]
    parameters: TransformerParameters
    curve: LearningCurve | None
    trials: list[Trial]


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
    terms: FittedTerms | None,
    checkpoints: Path | None = None,
    search_s: float = 0.0,
    number: int = 1,
    served_on: TrainingData | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> NetworkTraining:
    """The networks, each after the epoch that ranks the validation items best.

    Args:
        validation: Queries that say which epoch is best; without any, all epochs are trained.
        parameters: Parameters to train with, or to begin a search with.
        checkpoints: Directory of the state of an interrupted training, or of a search after its
            last trial: a trial itself must report each of its epochs.
        search_s: Seconds to try `parameters`, `defaults` and others; 0, or no validation, is no
            search.
        served_on: Data that `learn_again` will train on afterwards. Where this training leaves a
            processor idle, that one follows it, keeps the epochs that were found good, and leaves a
            checkpoint.
        seed: Seed of the search and of the first training; the next one's is one more.
        progress: Gets each epoch of the first network, and the share done within one.
    """
    searching = search_s > 0 and len(validation) > 0
    ended: list[Epoch] = []
    train = partial(_train, log, validation=validation, repeats=repeats, terms=terms)

    def on_epoch(epoch: "Epoch") -> None:
        ended.append(epoch)
        progress(ProgressStep(_TRAINING, epoch.epoch / epoch.epochs, 1.0, *epoch[:3]))

    def underway(done: float) -> None:
        progress(ProgressStep(_TRAINING, done, 1.0, *ended[-1][:3] if ended else ()))

    from slipstream.models.distributed import followed, side_by_side

    progress(ProgressStep(_TRAINING, 0.0))
    trials: list[Trial] = []
    fits: list[TransformerFit] = []
    if searching:
        from slipstream.models.transformer_fit import Checkpoint, digest

        arrays = (log.user, log.item, log.timestamp, log.weight)
        named = digest((defaults, parameters, search_s, seed), *arrays)
        journal = checkpoints / f"search-{named[:16]}.log" if checkpoints else None
        best = Checkpoint(journal.with_suffix(".pt") if journal else None, named)
        found = search(
            lambda tried, told: train(parameters=tried, progress=told, seed=seed),
            defaults,
            parameters,
            log.n_items,
            search_s,
            seed=seed,
            journal=journal,
            kept=best.kept,
            keep=best.keep,
            progress=progress,
        )
        parameters, trials = found.parameters, found.trials
        fits.append(found.network)
    tried = partial(train, parameters=parameters, checkpoints=checkpoints)
    trainings = [partial(tried, seed=seed + place) for place in range(len(fits), number)]

    def train_all(pace: "Pace | None") -> "list[TransformerFit]":
        def told(epoch: "Epoch") -> None:
            on_epoch(epoch)
            earlier = (before.quality or 0.0 for before in ended[:-1])
            if pace and all((epoch.quality or 0.0) > quality for quality in earlier):
                pace.allow(epoch.epoch)

        return side_by_side(trainings, progress=told, underway=underway)

    if served_on and _leaves_room(served_on, trainings) and checkpoints and validation:
        again = _again(served_on, parameters, checkpoints, seed)
        fits += followed(train_all, again)
    else:
        fits += train_all(None)
    curve = LearningCurve(
        kept=fits[0].epochs,
        loss=[epoch.loss for epoch in fits[0].curve],
        quality=[epoch.quality for epoch in fits[0].curve],
    )
    models = {name: fit.model for name, fit in zip(NETWORKS, fits, strict=False) if fit.epochs}
    return NetworkTraining(models, replace(parameters, epochs=fits[0].epochs), curve, trials)


def learn_again(
    log: InteractionLog,
    parameters: TransformerParameters,
    names: Sequence[str],
    *,
    terms: FittedTerms | None,
    checkpoints: Path | None = None,
    served_on: TrainingData | None = None,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> dict[str, Transformer]:
    """The networks of these names after all epochs on a log, from the beginning.

    Args:
        parameters: Parameters that validation or a search chose, `epochs` among them.
        names: Some of `NETWORKS`.
        terms: Terms of the items, with their names.
        checkpoints: Directory of the state of an interrupted training.
        served_on: As for `learn`.
        seed: Seed of the first network; the next one's is one more.
        progress: Gets the share of the epochs that is done.
    """
    from slipstream.models.distributed import side_by_side

    data = TrainingData(log, terms)
    seeds = [seed + NETWORKS.index(name) for name in names]
    trainings = [_again(data, parameters, checkpoints, each) for each in seeds]
    if served_on and _leaves_room(served_on, trainings) and checkpoints:
        trainings.append(_again(served_on, parameters, checkpoints, seeds[0]))
    fits = side_by_side(
        trainings, underway=lambda done: progress(ProgressStep("fitting on everything", done))
    )
    return {name: fit.model for name, fit in zip(names, fits, strict=False)}


def _leaves_room(served_on: TrainingData, trainings: Sequence[object]) -> bool:
    """Whether a training on these events is worth a process of its own at the same time."""
    return len(trainings) == 1 and len(served_on.log) >= _WORTH_A_PROCESS


def _again(
    data: TrainingData, parameters: TransformerParameters, checkpoints: Path | None, seed: int
) -> "partial[TransformerFit]":
    """A training for all epochs, which no validation stops."""
    return partial(
        _train,
        data.log,
        validation=(),
        repeats=True,
        terms=data.terms,
        parameters=parameters,
        checkpoints=checkpoints,
        seed=seed,
    )


def _train(
    log: InteractionLog,
    *,
    parameters: TransformerParameters,
    validation: Sequence[Query],
    repeats: bool,
    terms: FittedTerms | None,
    **more: Any,
) -> "TransformerFit":
    from slipstream.models.transformer_fit import fit_transformer

    # Histories of like length, so that a batch of them needs little padding.
    queries = sorted(validation, key=lambda query: len(query.history.item))

    def quality(dense: Dense) -> float:
        return mean_gain(dense, queries, repeats=repeats)

    vectors = terms.vectors if terms else None
    fit = fit_transformer(
        log, parameters, terms=vectors, quality=quality if queries else None, **more
    )
    return replace(fit, model=fit.model.of_terms(terms)) if terms else fit
