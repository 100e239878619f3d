"""Fitting a bundle: encode, choose parameters on validation, fit each retriever, train the network,
fit blend and ranker, measure.

Validation is cut from the given interactions: the last tenth of the events by time, as a bundle in
service will meet them, and the final retrievers are then fitted on everything. A protocol that says
otherwise passes its own split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import now_ms
from slipstream.evaluation.splits import split_at, time_split
from slipstream.models.base import EventWeights, InteractionLog
from slipstream.models.blend import initial_blend
from slipstream.models.content import fit_content, term_matrix
from slipstream.models.transformer import Transformer
from slipstream.models.transformer_parameters import TransformerParameters
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.network import NETWORK, can_learn, earlier_network, go_on, learn
from slipstream.recommender.profiles import FEWEST_EVENTS, PROFILES, transformer_parameters
from slipstream.recommender.ranking import fit_ranking
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.retrievers import fit_retrievers
from slipstream.recommender.search import memory, remembered
from slipstream.recommender.tuning import FEWEST_QUERIES, RetrieverParameters, tune

if TYPE_CHECKING:
    from scipy import sparse


_VALIDATION_SHARE = 0.1
# Where at least this share of next items was in the history already, repeats are worth
# recommending.
_REPEATS_FROM = 0.02
# Which of the items' terms the network learns vectors of.
_RAREST_TERM, _MOST_TERMS = 3, 5_000


@dataclass(frozen=True)
class Holdout:
    """Rows of the log. Parameters are chosen so that models of `training` predict `validation`
    well; with them the models of the bundle are then fitted on `final`.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    final: NDArray[np.int64]


def fit(
    interactions: pa.Table,
    items: pa.Table | None = None,
    *,
    version: str = "",
    profile: str = "fast",
    seed: int = 0,
    event_weights: EventWeights | None = None,
    repeats: bool | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """A bundle fitted on all the interactions (columns as of `read_interactions`), for the items of
    both tables.

    `version` names the bundle (by default the time); `repeats` None finds out whether visitors come
    back to what they had. Raises ValueError when no event has both an item and a weight, and for an
    unknown profile. The same input and seed give the same bundle, but for `created_at`.
    """
    weights = event_weights or EventWeights()
    item_ids = encoding.catalogue(interactions, items)
    log = encoding.encode(interactions, item_ids, weights)
    return fit_log(
        log,
        item_ids,
        encoding.attributes(items, item_ids),
        version=version,
        profile=profile,
        seed=seed,
        event_weights=weights,
        repeats=repeats,
        progress=progress,
    )


def fit_log(
    log: InteractionLog,
    item_ids: list[str],
    attributes: Mapping[str, Mapping[str, Any]],
    *,
    holdout: Holdout | None = None,
    version: str = "",
    profile: str = "fast",
    seed: int = 0,
    event_weights: EventWeights | None = None,
    repeats: bool | None = None,
    progress: Progress | None = None,
    start_from: Bundle | None = None,
    checkpoints: Path | None = None,
    search_s: float = 0.0,
) -> Bundle:
    """`fit` from encoded interactions, with the validation of a protocol where one is given.

    The network of `start_from`, an earlier bundle of the same profile, is gone on from if that was
    fitted before the first validation query; where enough is newer than that bundle, only what is
    newer is validation. In `checkpoints` an interrupted fit finds how far its network was. For
    `search_s` seconds, where there are any, other parameters of the network are tried, each from
    the beginning; what a search has found is used by those who start from this bundle.
    """
    if not len(log):
        raise ValueError("there are no interactions to fit on")
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    effort, say = PROFILES[profile], progress or (lambda _: None)
    if holdout is None:
        holdout = _newest(log, start_from, effort.ranking_queries)
    training, final = log.select(holdout.training), log.select(holdout.final)
    rows = sample(holdout.validation, effort.ranking_queries, seed)
    validation = encoding.queries(log, rows)
    enough = len(validation) >= FEWEST_QUERIES and len(training) > 0
    if not enough:  # parameters and weights stay what they are by default
        training, validation = final, []
    if repeats is None:
        repeats = _come_back(final)

    say(
        ProgressStep(
            f"choosing parameters on {min(len(validation), effort.tuning_queries):,} validation queries",
            0.0,
        )
    )
    start = RetrieverParameters()
    start = replace(start, ease=replace(start.ease, max_items=effort.ease_items))
    tuned = tune(training, _every(validation, effort.tuning_queries), start, repeats=repeats)
    described = [attributes.get(item_id, {}) for item_id in item_ids] if attributes else []
    content = fit_content(described) if described else None
    say(ProgressStep("fitting the retrievers", 0.2))
    fitted = fit_retrievers(training, tuned, content, repeats=repeats)
    defaults = transformer_parameters(effort, training)
    parameters = remembered(start_from, profile, defaults)
    terms = term_matrix(described, _RAREST_TERM, _MOST_TERMS) if described else None
    learned = None
    if can_learn(training, FEWEST_EVENTS):
        asked_from = int(log.timestamp[rows].min(initial=np.iinfo(np.int64).max))
        learned = learn(
            training,
            validation,
            defaults,
            parameters,
            repeats=repeats,
            terms=terms,
            start=earlier_network(start_from, item_ids, parameters.dim, asked_from),
            checkpoints=checkpoints,
            search_s=search_s,
            seed=seed,
            progress=lambda step: say(replace(step, done=0.25 + 0.5 * step.done)),
        )
        parameters = learned.parameters
        if learned.model:
            fitted[NETWORK] = learned.model
    bundle = Bundle(
        manifest=_manifest(final, item_ids, version, profile, seed, tuned),
        item_ids=item_ids,
        retrievers=fitted,
        blend=initial_blend([retriever.logarithmic for retriever in fitted.values()]),
        event_weights=event_weights or EventWeights(),
        repeats=repeats,
        attributes=attributes or None,
    )
    if learned:
        bundle.manifest.metrics["curve"] = learned.curve
    if learned and learned.trials:
        bundle.manifest.metrics["search"] = [trial.record() for trial in learned.trials]
    if enough:
        say(ProgressStep("fitting blend and ranker", 0.75))
        table = item_table(training, item_ids, attributes)
        bundle, metrics = fit_ranking(bundle, validation, log.user[rows], table, seed)
        bundle.manifest.metrics["validation"] = dict(metrics)
        if len(final) > len(training):
            say(ProgressStep("fitting on everything", 0.85))
            bundle = _fitted_on(
                bundle,
                final,
                tuned,
                parameters,
                terms,
                lambda step: say(replace(step, done=0.85 + 0.15 * step.done)),
            )
    bundle.manifest.parameters["blend"] = dict(
        zip(bundle.retrievers, bundle.blend.weights.tolist(), strict=True)
    )
    bundle.manifest.parameters["repeats"] = repeats
    bundle.manifest.parameters["network"] = (
        asdict(parameters) if NETWORK in bundle.retrievers else None
    )
    searched = parameters if learned and learned.trials else None
    bundle.manifest.parameters["searched"] = memory(start_from, profile, bundle.version, searched)
    bundle.manifest.parameters["ranker"] = bundle.ranking is not None
    return bundle


def refit(bundle: Bundle, log: InteractionLog, progress: Progress = lambda _: None) -> Bundle:
    """The same recommender, by the same parameters and blend, fitted on another log of the same
    catalogue. `progress` tells how many of the network's epochs are done.

    What was judged on a part of the events can so be shipped fitted on all of them, at a fraction
    of the time of a new fit.
    """
    if log.n_items != len(bundle.item_ids):
        raise ValueError(f"the log is of {log.n_items} items, the bundle of {len(bundle.item_ids)}")
    old = bundle.manifest
    tuned = RetrieverParameters.of(old.parameters)
    manifest = _manifest(log, bundle.item_ids, old.version, old.profile, old.seed, tuned)
    manifest.metrics.update(old.metrics)
    manifest.parameters.update(old.parameters)
    described = (
        [(bundle.attributes or {}).get(item_id, {}) for item_id in bundle.item_ids]
        if bundle.attributes
        else []
    )
    terms = term_matrix(described, _RAREST_TERM, _MOST_TERMS) if described else None
    network = old.parameters.get("network")
    parameters = TransformerParameters(**network) if isinstance(network, dict) else None  # type: ignore[arg-type]
    return _fitted_on(replace(bundle, manifest=manifest), log, tuned, parameters, terms, progress)


def _fitted_on(
    bundle: Bundle,
    log: InteractionLog,
    tuned: RetrieverParameters,
    parameters: TransformerParameters | None,
    terms: "sparse.csr_array[Any, Any] | None",
    progress: Progress,
) -> Bundle:
    """The bundle with the same retrievers, fitted on another log, to which the network goes on;
    blend and ranker stay.
    """
    fitted = fit_retrievers(
        log,
        tuned,
        bundle.retrievers.get("content"),
        repeats=bundle.repeats,
        names=set(bundle.retrievers),
    )
    network = bundle.retrievers.get(NETWORK)
    if isinstance(network, Transformer) and parameters is not None:
        fitted[NETWORK] = go_on(
            network, log, parameters, terms=terms, progress=progress, seed=bundle.manifest.seed
        )
    ranking = bundle.ranking
    if ranking is not None:
        ranking = replace(ranking, items=item_table(log, bundle.item_ids, bundle.attributes or {}))
    return replace(
        bundle, retrievers={name: fitted[name] for name in bundle.retrievers}, ranking=ranking
    )


def _newest(log: InteractionLog, start_from: Bundle | None, wanted: int) -> Holdout:
    """The last tenth of the events by time is validation; of these only what an earlier bundle was
    not fitted on, where that is `wanted` queries or more.
    """
    split = time_split(log.user, log.timestamp, _VALIDATION_SHARE)
    until = start_from.manifest.data.until if start_from else None
    if until is not None:
        unseen = split_at(log.user, log.timestamp, until + 1)
        if wanted <= len(unseen.test) < len(split.test):
            split = unseen
    return Holdout(split.training, split.test, np.arange(len(log)))


def _every(queries: Sequence[Query], most: int) -> Sequence[Query]:
    """At most `most` of the queries, evenly spread."""
    return queries[:: max(1, -(-len(queries) // most))]


def _come_back(log: InteractionLog) -> bool:
    """Whether at least `_REPEATS_FROM` of the events that have a history are of an item that is in
    it.
    """
    pairs = len(np.unique(log.user.astype(np.int64) * log.n_items + log.item))
    later = len(log) - len(np.unique(log.user))
    return later > 0 and (len(log) - pairs) / later >= _REPEATS_FROM


def sample(rows: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """At most `size` of the rows, in their order."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def _manifest(
    log: InteractionLog,
    item_ids: list[str],
    version: str,
    profile: str,
    seed: int,
    tuned: RetrieverParameters,
) -> Manifest:
    created_at = now_ms()
    return Manifest(
        version=version or f"v{created_at}",
        created_at=created_at,
        profile=profile,
        seed=seed,
        data=DataSummary(
            visitors=len(np.unique(log.user)),
            items=len(item_ids),
            events=len(log),
            from_=int(log.timestamp.min()),
            until=int(log.timestamp.max()),
        ),
        parameters=asdict(tuned),
    )
