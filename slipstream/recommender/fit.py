"""Fitting a bundle: parameters are chosen on validation, then retrievers, network, blend and ranker
are fitted.

Validation is cut from the interactions themselves, as a bundle in service will meet them: see
`slipstream.recommender.holdout`. The final retrievers are then fitted on everything. An evaluation
protocol passes its own holdout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipstream.contracts.bundle import Manifest, ModelMetrics, ValidationMetrics
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.models.baskets import fit_baskets
from slipstream.models.blend import initial_blend
from slipstream.models.content import FittedTerms, fit_content
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.holdout import (
    Holdout,
    evenly,
    newest_events,
    sample,
    whole_visitors,
)
from slipstream.recommender.network import (
    NetworkTraining,
    TrainingData,
    can_learn,
    learn,
)
from slipstream.recommender.profiles import (
    FEWEST_EVENTS,
    PROFILES,
    Profile,
    networks,
    transformer_parameters,
)
from slipstream.recommender.ranking import fit_ranking
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.refit import (
    content_index,
    describe,
    fitted_on,
    item_terms,
    new_manifest,
    refit,
    repurchases_of,
)
from slipstream.recommender.search import memory, remembered
from slipstream.recommender.tuning import FEWEST_QUERIES, RetrieverParameters, fit_retrievers, tune

# Where at least this share of next items was in the history already, repeats are worth
# recommending.
_REPEATS_FROM = 0.02
# The largest share of events that may be newer than the choices of an earlier bundle.
_NEW_SHARE = 0.2
# Parameters of retrievers are chosen on the events of some visitors, at most so many: each choice
# fits a retriever, and they suit a larger log.
_TUNING_EVENTS = 1_000_000


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit, apart from its data.

    Attributes:
        version: Version of the bundle; empty names it by the time.
        profile: Name of the effort, a key of `PROFILES`.
        seed: Seed of sampling and training. The same input and seed give the same bundle, but for
            `created_at`.
        repeats: Whether items of the history may be recommended again. None finds out whether
            visitors come back to what they had.
        holdout: Rows to choose parameters on; None takes the newest events.
        start_from: Earlier bundle. What it chose on validation is kept while at most a fifth of the
            events is newer: parameters, epochs, blend and ranker. Everything is then fitted once,
            from the beginning. A fit that chooses begins with the parameters of its search.
        keeps: Whether the choices of `start_from` may be kept.
        served_on: Data that the bundle is refitted on before it serves. Its networks then stay as
            validation judged them. Where that leaves a processor idle, those of the refit are
            trained at the same time, and leave their checkpoints.
        checkpoints: Directory in which an interrupted fit finds its network again.
        search_s: Seconds to search other parameters of the network for, each trained from the
            beginning; 0 is no search.
        onset: When a shift began (ms), see `newest_events`; None without one.
    """

    version: str = ""
    profile: str = "fast"
    seed: int = 0
    event_weights: EventWeights = field(default_factory=EventWeights)
    repeats: bool | None = None
    holdout: Holdout | None = None
    start_from: Bundle | None = None
    keeps: bool = True
    served_on: TrainingData | None = None
    checkpoints: Path | None = None
    search_s: float = 0.0
    onset: int | None = None


def fit(
    interactions: pa.Table,
    items: pa.Table | None = None,
    options: FitOptions = FitOptions(),
    progress: Progress = lambda _: None,
) -> Bundle:
    """A bundle fitted on all the interactions, for the items that somebody has met. Columns are
    those of `read_interactions` and `read_items`.

    Raises:
        ValueError: No event has both an item and a weight, or the profile is unknown.
    """
    item_ids = encoding.met_items(interactions, options.event_weights)
    log = encoding.encode(interactions, item_ids, options.event_weights)
    return fit_log(log, item_ids, encoding.attributes(items, item_ids), options, progress)


def fit_log(
    log: InteractionLog,
    item_ids: list[str],
    attributes: Mapping[str, Mapping[str, Any]],
    options: FitOptions = FitOptions(),
    progress: Progress = lambda _: None,
) -> Bundle:
    """A bundle fitted on encoded interactions, as `fit` makes it of tables. The log has a catalogue
    of `item_ids`.

    Raises:
        ValueError: The log is empty, or the profile is unknown.
    """
    if not len(log):
        raise ValueError("there are no interactions to fit on")
    if options.profile not in PROFILES:
        raise ValueError(f"unknown profile {options.profile!r}; there are {', '.join(PROFILES)}")
    if options.start_from and _choices_hold(options.start_from, log, attributes, options):
        return refit(
            options.start_from,
            log,
            item_ids,
            attributes,
            options.version,
            options.checkpoints,
            options.served_on,
            progress,
        )
    effort = PROFILES[options.profile]
    data = _split(log, options, effort)
    repeats = _come_back(data.final) if options.repeats is None else options.repeats
    tuned = _tuned(data, effort, repeats, options.seed, progress)
    descriptions = describe(item_ids, attributes)
    content = fit_content(descriptions) if descriptions else None
    progress(ProgressStep("fitting the retrievers", 0.2))
    retrievers = fit_retrievers(data.training, tuned, content, repeats=repeats)
    terms = item_terms(descriptions)
    network = _network(data, options, effort, repeats, terms, progress)
    retrievers |= network.models
    manifest = new_manifest(data.final, options.version, options.profile, options.seed, tuned)
    bundle = Bundle(
        manifest=manifest,
        item_ids=item_ids,
        retrievers=retrievers,
        blend=initial_blend([retriever.logarithmic for retriever in retrievers.values()]),
        event_weights=options.event_weights,
        repeats=repeats,
        attributes=attributes or None,
        baskets=fit_baskets(data.training),
        repurchases=repurchases_of(data.training, item_ids, attributes),
        content=content_index(data.final, descriptions),
    )
    validated = None
    if data.validation:
        progress(ProgressStep("fitting blend and ranker", 0.75))
        table = item_table(data.training, item_ids, attributes)
        bundle, validated = fit_ranking(bundle, data.validation, data.users, table, options.seed)
        if len(data.final) > len(data.training):
            progress(ProgressStep("fitting on everything", 0.85))
            bundle = fitted_on(
                bundle,
                data.final,
                tuned,
                None if options.served_on is not None else network.parameters,
                descriptions,
                options.checkpoints,
                lambda step: progress(replace(step, done=0.85 + 0.15 * step.done)),
            )
    return replace(bundle, manifest=_recorded(bundle, network, validated, options))


def _choices_hold(
    earlier: Bundle,
    log: InteractionLog,
    attributes: Mapping[str, Mapping[str, Any]],
    options: FitOptions,
) -> bool:
    """Whether an earlier bundle's choices are kept for this log, instead of making them again."""
    manifest = earlier.manifest
    chosen_until = manifest.parameters.get("chosen_until")
    asked = (options.profile, options.seed, options.event_weights)
    return (
        options.keeps
        and not options.search_s
        and options.holdout is None
        and (manifest.profile, manifest.seed, earlier.event_weights) == asked
        and bool(earlier.attributes) == bool(attributes)
        and isinstance(chosen_until, int)
        and float((log.timestamp > chosen_until).mean()) <= _NEW_SHARE
    )


@dataclass(frozen=True)
class _FitData:
    """Events of one fit, by their purpose.

    `validation` is empty where there is too little to choose by; the retrievers are then fitted on
    the final events at once. `users` has the visitor of each validation query.
    """

    training: InteractionLog
    final: InteractionLog
    validation: Sequence[Query]
    users: NDArray[np.int32]


def _split(log: InteractionLog, options: FitOptions, effort: Profile) -> _FitData:
    holdout = options.holdout or newest_events(log, options.onset, effort.tuning_queries)
    training, final = log.select(holdout.training), log.select(holdout.final)
    rows = sample(holdout.validation, effort.ranking_queries, options.seed)
    validation = encoding.queries(log, rows)
    if len(validation) < FEWEST_QUERIES or not len(training):
        training, validation = final, []  # parameters and weights stay their defaults
    return _FitData(training, final, validation, log.user[rows])


def _tuned(
    data: _FitData, effort: Profile, repeats: bool, seed: int, progress: Progress
) -> RetrieverParameters:
    queries = evenly(data.validation, effort.tuning_queries)
    number = min(len(data.validation), effort.tuning_queries)
    progress(ProgressStep(f"choosing parameters on {number:,} validation queries", 0.0))
    start = RetrieverParameters()
    start = replace(start, ease=replace(start.ease, max_items=effort.ease_items))
    some = whole_visitors(data.training, _TUNING_EVENTS, seed)
    return tune(some, queries, start, repeats=repeats)


def _network(
    data: _FitData,
    options: FitOptions,
    effort: Profile,
    repeats: bool,
    terms: FittedTerms | None,
    progress: Progress,
) -> NetworkTraining:
    """The trained network, or none where there are too few events."""
    defaults = transformer_parameters(effort, data.training)
    parameters = remembered(options.start_from, options.profile, defaults)
    if not can_learn(data.training, FEWEST_EVENTS):
        return NetworkTraining({}, parameters, None, [])
    later = TrainingData(data.final, terms) if len(data.final) > len(data.training) else None
    return learn(
        data.training,
        data.validation,
        defaults,
        parameters,
        repeats=repeats,
        terms=terms,
        checkpoints=options.checkpoints,
        search_s=options.search_s,
        number=networks(effort, data.training),
        served_on=options.served_on or later,
        seed=options.seed,
        progress=lambda step: progress(replace(step, done=0.25 + 0.5 * step.done)),
    )


def _recorded(
    bundle: Bundle,
    network: NetworkTraining,
    validation: ValidationMetrics | None,
    options: FitOptions,
) -> Manifest:
    """The bundle's manifest with the parameters that were chosen, and the results so far."""
    version, weights = bundle.version, bundle.blend.weights.tolist()
    searched = network.parameters if network.trials else None
    parameters = {
        **bundle.manifest.parameters,
        "blend": dict(zip(bundle.retrievers, weights, strict=True)),
        "repeats": bundle.repeats,
        "network": asdict(network.parameters) if network.models else None,
        "chosen_until": bundle.manifest.data.until if validation else None,
        "searched": memory(options.start_from, options.profile, version, searched),
        "ranker": bundle.ranking is not None,
    }
    metrics = ModelMetrics(
        validation=validation,
        curve=network.curve,
        search=[trial.record() for trial in network.trials] or None,
    )
    return bundle.manifest.model_copy(update={"parameters": parameters, "metrics": metrics})


def _come_back(log: InteractionLog) -> bool:
    """Whether visitors come back: at least `_REPEATS_FROM` of the events that have a history are of
    an item in it.
    """
    pairs = len(np.unique(log.user.astype(np.int64) * log.n_items + log.item))
    later = len(log) - len(np.unique(log.user))
    return later > 0 and (len(log) - pairs) / later >= _REPEATS_FROM
