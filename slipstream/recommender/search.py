"""Search for the network's parameters within a time, on validation alone.

T. Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019; J.
Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011 (the tree-structured
Parzen estimator); D. Golovin et al., "Google Vizier", KDD 2017 (the median rule: a trial ends that
is worse after an epoch than half of those before it were).

How many trials fit into the time depends on the machine, so a search can't be repeated; a fit with
the parameters that it chose can.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipstream.contracts.bundle import SearchTrial
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.transformer import TransformerParameters
from slipstream.recommender.bundle import Bundle

if TYPE_CHECKING:  # Optuna is imported only where something is searched
    from optuna.distributions import BaseDistribution
    from optuna.storages import JournalStorage
    from optuna.study import Study
    from optuna.trial import TrialState

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
    journal: Path | None = None,
    kept: Callable[[TransformerParameters], "TransformerFit | None"] = lambda _: None,
    keep: Callable[[TransformerParameters, "TransformerFit"], None] = lambda *_: None,
    progress: Progress = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """The network with the highest quality in its best epoch, of all trained in `seconds`.

    Not for several processes that train one network: each would end a trial at another moment.

    Args:
        defaults: Parameters of the profile, which the search space lies around; the second trial.
        start: Parameters of the first trial, which always gets all its epochs.
        seconds: Time for the trials. The epoch under way when it is over is the last.
        journal: File of Optuna's storage, from which an interrupted search goes on; None keeps
            nothing. Its name is that of the study, so that each search has a file of its own.
        kept: The network that an interrupted search kept for these parameters, if it did.
        keep: Gets the network of the best trial so far.
        progress: Gets a step after each epoch: the trial, and the share of the time that is over.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        storage=_storage(journal) if journal else None,
        study_name=journal.stem if journal else None,
        pruner=optuna.pruners.MedianPruner(_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS),
        load_if_exists=True,
    )
    trials = _ended(study, start)
    # Another seed, or the first proposals would be those that were tried already.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + len(trials), n_startup_trials=_RANDOM_TRIALS
    )
    space = search_space(defaults, start, n_items)
    known = list(dict.fromkeys((start, defaults)))
    began = clock() - sum(trial.seconds for trial in trials)

    def attempt(asked: optuna.Trial) -> "tuple[TransformerFit | None, Trial]":
        since, qualities = clock(), list[float]()

        def on_epoch(epoch: "Epoch") -> None:
            progress(
                ProgressStep(
                    f"searching the network's parameters, trial {len(trials) + 1}",
                    min(1.0, (clock() - began) / seconds),
                    1.0,
                    *epoch[:3],  # epoch, epochs, loss
                )
            )
            if epoch.quality is None or not math.isfinite(epoch.loss):
                raise _EndedError("diverged")
            qualities.append(epoch.quality)
            asked.report(epoch.quality, epoch.epoch)
            if trials and asked.should_prune():
                raise _EndedError("pruned")
            if trials and clock() - began >= seconds:
                raise _EndedError("out of time")

        parameters, network, state = replace(start, **asked.params), None, "complete"
        try:
            network = train(parameters, on_epoch)
        except _EndedError as ended:
            state = str(ended)
        if state == "complete" and not qualities:  # not one epoch was any good
            state = "diverged"
        best_quality, took = max(qualities, default=None), round(clock() - since, 3)
        return network, Trial(len(trials), state, best_quality, len(qualities), took, parameters)

    network: TransformerFit | None = None  # that of the best trial, where it was trained just now
    while not trials or clock() - began < seconds:
        if len(trials) < len(known):
            study.enqueue_trial({name: getattr(known[len(trials)], name) for name in space})
        asked = study.ask(dict(space))
        trained, trial = attempt(asked)
        asked.set_user_attr("state", trial.state)
        asked.set_user_attr("seconds", trial.seconds)
        if trained is None or trial.quality is None:
            study.tell(asked, state=_state(trial))
        else:
            best = _best(trials)
            if best is None or trial.quality > _quality(best):
                network = trained
                keep(trial.parameters, trained)
            study.tell(asked, trial.quality)
        trials.append(trial)
    best = _best(trials)
    # Where not even the first trial learned anything, it is as without a search.
    parameters = best.parameters if best else start
    network = network or kept(parameters) or train(parameters, lambda _: None)
    return SearchResult(network, parameters, trials)


def _storage(journal: Path) -> "JournalStorage":
    """Optuna's storage in memory, and in a file of lines, which this process alone writes.

    Where the disk is full, the former file stays: it only saves time.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    logs: list[dict[str, Any]] = []
    with suppress(OSError, ValueError):  # no file, or half a line
        for line in journal.read_bytes().splitlines():
            logs.append(json.loads(line))

    class Journal(BaseJournalBackend):
        def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
            return logs[log_number_from:]

        def append_logs(self, more: list[dict[str, Any]]) -> None:
            logs.extend(more)
            unfinished = journal.with_suffix(".unfinished")
            with suppress(OSError):
                journal.parent.mkdir(parents=True, exist_ok=True)
                unfinished.write_text("".join(json.dumps(each) + "\n" for each in logs))
                unfinished.replace(journal)

    return JournalStorage(Journal())


def _ended(study: "Study", start: TransformerParameters) -> list[Trial]:
    """The study's trials that have ended, numbered in their order."""
    ended = (trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())
    return [
        Trial(
            number,
            trial.user_attrs["state"],
            max(trial.intermediate_values.values(), default=None),
            len(trial.intermediate_values),
            trial.user_attrs["seconds"],
            replace(start, **trial.params),
        )
        for number, trial in enumerate(ended)
    ]


def _best(trials: Iterable[Trial]) -> Trial | None:
    """The best complete trial, of equal ones the first."""
    return max((trial for trial in trials if trial.state == "complete"), key=_quality, default=None)


def _quality(trial: Trial) -> float:
    return trial.quality or 0.0


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
    """The choice of the latest search of each profile, for the manifest of a new bundle. By profile
    it has the `version` that was searched for, and the parameters, `network`. `chosen` is None
    where there was no search.
    """
    now = {profile: {"version": version, "network": asdict(chosen)}} if chosen else {}
    return {**_searched(bundle), **now}


def _searched(bundle: Bundle | None) -> dict[str, Any]:
    return dict(bundle.manifest.parameters.get("searched") or {}) if bundle else {}  # type: ignore[arg-type]
