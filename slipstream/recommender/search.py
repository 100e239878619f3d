"""Search for the network's parameters within a time, on validation alone.

T. Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019; J.
Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011 (the tree-structured
Parzen estimator); D. Golovin et al., "Google Vizier", KDD 2017 (the median rule: a trial ends that
is worse after an epoch than half of those before it were).

How many trials fit into the time depends on the machine, so a search can't be repeated; a fit with
the parameters that it chose can.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from slipstream.contracts.bundle import SearchTrial
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.transformer import TransformerParameters
from slipstream.recommender.bundle import Bundle

if TYPE_CHECKING:  # Optuna is imported only where something is searched
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

    from slipstream.models.transformer_fit import TransformerFit
    from slipstream.models.transformer_training import Epoch

_RANDOM_TRIALS, _UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 5, 3, 1

# Trains a network and calls back after each epoch. An exception of the callback ends the training
# and is raised.
Train = Callable[[TransformerParameters, "Callable[[Epoch], None]"], "TransformerFit"]


class Trial(NamedTuple):
    """A training with some parameters; `seconds` is its time, the rest as in `SearchTrial`."""

    number: int
    state: str
    quality: float | None
    epochs: int
    seconds: float
    parameters: TransformerParameters

    def record(self) -> SearchTrial:
        """The trial as the manifest has it."""
        return SearchTrial.model_validate({**self._asdict(), "parameters": asdict(self.parameters)})


class SearchResult(NamedTuple):
    """The best network, the parameters that it was trained with, and all trials in order."""

    network: "TransformerFit"
    parameters: TransformerParameters
    trials: list[Trial]


class BestTrial(NamedTuple):
    """The best complete trial so far."""

    quality: float
    network: "TransformerFit"
    parameters: TransformerParameters


@dataclass
class SearchState:
    """A search between two trials, from which an interrupted one goes on.

    Attributes:
        trials: Trials that have ended, in order.
        qualities: Quality after each epoch of each of them.
        best: The best of them; None before the first complete one.
        seconds: Time that they took together.
    """

    trials: list[Trial] = field(default_factory=list)
    qualities: list[list[float]] = field(default_factory=list)
    best: BestTrial | None = None
    seconds: float = 0.0


class _EndedError(Exception):
    """A trial ended before its last epoch; the text is its state."""


def search(
    train: Train,
    defaults: TransformerParameters,
    start: TransformerParameters,
    n_items: int,
    seconds: float,
    *,
    seed: int = 0,
    kept: SearchState | None = None,
    keep: Callable[[SearchState], None] = lambda _: None,
    progress: Progress = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """The network with the highest quality in its best epoch, of all trained in `seconds`.

    Not for several processes that train one network: each would end a trial at another moment.

    Args:
        train: Trains a network.
        defaults: Parameters of the profile, which the search space lies around; the second trial.
        start: Parameters of the first trial, which always gets all its epochs.
        n_items: Size of the catalogue.
        seconds: Time for the trials. The epoch under way when it is over is the last.
        seed: Seed of the proposals.
        kept: State of an interrupted search for the same network; None begins a new one.
        keep: Gets the state after each trial.
        progress: Gets a step after each epoch: the trial, and the share of the time that is over.
        clock: Time in seconds.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = kept or SearchState()
    found = replace(found, trials=[*found.trials], qualities=[*found.qualities])
    # Another seed, or the first proposals would be those that were tried already.
    sampler = optuna.samplers.TPESampler(
        seed=seed + len(found.trials), n_startup_trials=_RANDOM_TRIALS
    )
    pruner = optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    space = search_space(defaults, start, n_items)
    for trial, qualities in zip(found.trials, found.qualities, strict=True):
        study.add_trial(_frozen(trial, qualities, space))
    for known in list(dict.fromkeys((start, defaults)))[len(found.trials) :]:
        study.enqueue_trial({name: getattr(known, name) for name in space})
    began = clock() - found.seconds

    def attempt(asked: optuna.Trial) -> "TransformerFit | None":
        since, qualities = clock(), list[float]()

        def on_epoch(epoch: "Epoch") -> None:
            progress(
                ProgressStep(
                    f"searching the network's parameters, trial {asked.number + 1}",
                    min(1.0, (clock() - began) / seconds),
                    1.0,
                    *epoch[:3],  # epoch, epochs, loss
                )
            )
            if epoch.quality is None or not math.isfinite(epoch.loss):
                raise _EndedError("diverged")
            qualities.append(epoch.quality)
            asked.report(epoch.quality, epoch.epoch)
            if asked.number and asked.should_prune():
                raise _EndedError("pruned")
            if asked.number and clock() - began >= seconds:
                raise _EndedError("out of time")

        parameters, network, state = replace(start, **asked.params), None, "complete"
        try:
            network = train(parameters, on_epoch)
        except _EndedError as ended:
            state = str(ended)
        if state == "complete" and not qualities:  # not one epoch was any good
            state = "diverged"
        best_quality, took = max(qualities, default=None), round(clock() - since, 3)
        trial = Trial(asked.number, state, best_quality, len(qualities), took, parameters)
        found.trials.append(trial)
        found.qualities.append(qualities)
        return network

    while not found.trials or clock() - began < seconds:
        asked = study.ask(dict(space))
        network, trial = attempt(asked), found.trials[-1]
        if network is None or trial.quality is None:
            study.tell(asked, state=_state(trial))
        else:
            study.tell(asked, trial.quality)
            if found.best is None or trial.quality > found.best.quality:
                found.best = BestTrial(trial.quality, network, trial.parameters)
        found.seconds = clock() - began
        keep(found)
    if found.best is None:  # not even the first trial learned anything: as without a search
        return SearchResult(train(start, lambda _: None), start, found.trials)
    return SearchResult(found.best.network, found.best.parameters, found.trials)


def _frozen(
    trial: Trial, qualities: Sequence[float], space: "Mapping[str, BaseDistribution]"
) -> "FrozenTrial":
    """A trial that has ended, as Optuna keeps it."""
    import optuna

    state = _state(trial)
    return optuna.trial.create_trial(
        state=state,
        value=trial.quality if state == optuna.trial.TrialState.COMPLETE else None,
        params={name: getattr(trial.parameters, name) for name in space},
        distributions=dict(space),
        intermediate_values=dict(enumerate(qualities, 1)),
    )


def _state(trial: Trial) -> "TrialState":
    from optuna.trial import TrialState

    if trial.state == "complete":
        return TrialState.COMPLETE
    return TrialState.PRUNED if trial.epochs else TrialState.FAIL


def search_space(
    defaults: TransformerParameters, start: TransformerParameters, n_items: int
) -> "Mapping[str, BaseDistribution]":
    """The values to choose from: around the profile's defaults, with all values of `start`.

    No window is longer than the defaults', which holds nearly every history already.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    def with_known(name: str, *values: int) -> list[int]:
        return sorted({*values, getattr(defaults, name), getattr(start, name)})

    def between(name: str, low: float, high: float, *, log: bool) -> FloatDistribution:
        known = (low, high, getattr(defaults, name), getattr(start, name))
        return FloatDistribution(min(known), max(known), log=log)

    dims = with_known("dim", defaults.dim // 2, 2 * defaults.dim)
    choices = {
        "dim": dims,
        "heads": [
            heads for heads in with_known("heads", 1, 2, 4) if all(dim % heads == 0 for dim in dims)
        ],
        "blocks": with_known("blocks", 1, 2, 3),
        "window": with_known("window", max(2, defaults.window // 2)),
        "batch": with_known("batch", defaults.batch // 2, 2 * defaults.batch),
    }
    if n_items > defaults.negatives:  # else the whole catalogue is compared, whatever the number
        choices["negatives"] = with_known(
            "negatives", defaults.negatives // 2, 2 * defaults.negatives
        )
    return {
        **{name: CategoricalDistribution(values) for name, values in choices.items()},
        "dropout": between("dropout", 0.0, 0.6, log=False),
        "learning_rate": between("learning_rate", 5e-4, 8e-3, log=True),
        "weight_decay": between("weight_decay", 1e-4, 0.3, log=True),
    }


def remembered(
    bundle: Bundle | None, profile: str, defaults: TransformerParameters
) -> TransformerParameters:
    """The parameters that an earlier search for this profile has chosen, by the bundle's manifest.

    The defaults where there was none. The number of epochs is always the profile's.
    """
    chosen = _searched(bundle).get(profile, {}).get("network", {})
    return replace(defaults, **{**chosen, "epochs": defaults.epochs, "patience": defaults.patience})


def memory(
    bundle: Bundle | None, profile: str, version: str, chosen: TransformerParameters | None
) -> dict[str, Any]:
    """The choice of the latest search of each profile, for the manifest of a new bundle.

    Args:
        bundle: Earlier bundle; its choices are kept.
        profile: Profile of the present fit.
        version: Version of the new bundle.
        chosen: Parameters that its search has chosen; None where there was no search.

    Returns:
        By profile: `version` of the bundle that was searched for, and the parameters, `network`.
    """
    now = {profile: {"version": version, "network": asdict(chosen)}} if chosen else {}
    return {**_searched(bundle), **now}


def _searched(bundle: Bundle | None) -> dict[str, Any]:
    return dict(bundle.manifest.parameters.get("searched") or {}) if bundle else {}  # type: ignore[arg-type]
