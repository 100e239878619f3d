"""Fitting a bundle: encode, choose parameters on validation, fit each retriever, fit the blend, measure.

Validation is cut from the given interactions: the last tenth of the events by time, as a bundle in service will meet them, and
the final retrievers are then fitted on everything. A protocol that says otherwise passes its own split.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.evaluation.metrics import UNRANKED, hit_rate, mrr, ndcg
from slipstream.evaluation.splits import time_split
from slipstream.models.base import EventWeights, InteractionLog, Retriever
from slipstream.models.blend import fit_blend, initial_blend
from slipstream.models.content import fit_content
from slipstream.models.ease import fit_ease
from slipstream.models.popularity import fit_popularity
from slipstream.models.revisits import revisits
from slipstream.models.rules import fit_rules
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.encoding import Query
from slipstream.recommender.stages import Candidates, shortlist
from slipstream.recommender.tuning import FEWEST_QUERIES, Tuned, tune

Progress = Callable[[str], None]

_VALIDATION_SHARE = 0.1
_BLEND_CANDIDATES = 50
_REPEATS_FROM = 0.02
"""Where at least this share of next items was in the history already, repeats are worth recommending."""


@dataclass(frozen=True)
class Profile:
    """How much effort a fit takes."""

    queries: int
    """Validation queries to choose parameters and the blend by, at most."""
    ease_items: int


PROFILES: Mapping[str, Profile] = {"fast": Profile(2_000, 8_000), "best": Profile(5_000, 20_000)}


@dataclass(frozen=True)
class Holdout:
    """Rows of the log. Parameters are chosen so that models of `training` predict `validation` well; with them the models
    of the bundle are then fitted on `final`.
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
    """A bundle fitted on all the interactions (columns as of `read_interactions`), for the items of both tables.

    `version` names the bundle (by default the time); `repeats` None finds out whether visitors come back to what they had.
    Raises ValueError when no event has both an item and a weight, and for an unknown profile. The same input and seed give
    the same bundle, but for `created_at`.
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
) -> Bundle:
    """`fit` from encoded interactions, with the validation of a protocol where one is given."""
    if not len(log):
        raise ValueError("there are no interactions to fit on")
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    effort, say = PROFILES[profile], progress or (lambda _: None)
    if holdout is None:
        split = time_split(log.user, log.timestamp, _VALIDATION_SHARE)
        holdout = Holdout(split.training, split.test, np.arange(len(log)))
    training, final = log.select(holdout.training), log.select(holdout.final)
    validation = encoding.queries(log, sample(holdout.validation, effort.queries, seed))
    if repeats is None:
        repeats = _come_back(final)

    say(f"choosing parameters on {len(validation):,} validation queries")
    start = Tuned()
    start = replace(start, ease=replace(start.ease, max_items=effort.ease_items))
    tuned = tune(training, validation, start, repeats=repeats)
    content = fit_content([attributes.get(item_id, {}) for item_id in item_ids]) if attributes else None
    say("fitting the retrievers")
    enough = len(validation) >= FEWEST_QUERIES
    fitted = _retrievers(training if enough else final, tuned, content, repeats=repeats)
    bundle = Bundle(
        manifest=_manifest(final, item_ids, version, profile, seed, tuned),
        item_ids=item_ids,
        retrievers=fitted,
        blend=initial_blend([retriever.logarithmic for retriever in fitted.values()]),
        event_weights=event_weights or EventWeights(),
        repeats=repeats,
        attributes=attributes or None,
    )
    if enough:
        say("fitting the blend")
        bundle, metrics = _blended(bundle, validation)
        bundle.manifest.metrics["validation"] = dict(metrics)
        if len(final) > len(training):
            say("fitting the retrievers on everything")
            bundle = replace(bundle, retrievers=_retrievers(final, tuned, content, repeats=repeats))
    bundle.manifest.parameters["blend"] = dict(zip(fitted, bundle.blend.weights.tolist(), strict=True))
    bundle.manifest.parameters["repeats"] = repeats
    return bundle


def refit(bundle: Bundle, log: InteractionLog) -> Bundle:
    """The same recommender, by the same parameters and blend, fitted on another log of the same catalogue.

    What was judged on a part of the events can so be shipped fitted on all of them, at a fraction of the time of a new fit.
    """
    if log.n_items != len(bundle.item_ids):
        raise ValueError(f"the log is of {log.n_items} items, the bundle of {len(bundle.item_ids)}")
    old = bundle.manifest
    tuned = Tuned.of(old.parameters)
    manifest = _manifest(log, bundle.item_ids, old.version, old.profile, old.seed, tuned)
    manifest.metrics.update(old.metrics)
    manifest.parameters.update(old.parameters)
    retrievers = _retrievers(log, tuned, bundle.retrievers.get("content"), repeats=bundle.repeats)
    return replace(bundle, manifest=manifest, retrievers=retrievers)


def _retrievers(log: InteractionLog, tuned: Tuned, content: Retriever | None, *, repeats: bool) -> dict[str, Retriever]:
    found: dict[str, Retriever] = {
        "popularity": fit_popularity(log, tuned.popularity_half_life_ms),
        "rules": fit_rules(log, tuned.rules),
        "ease": fit_ease(log, tuned.ease),
    }
    if content is not None:
        found["content"] = content
    if repeats:
        found["revisits"] = revisits(log.n_items)
    return found


def _blended(bundle: Bundle, validation: Sequence[Query]) -> tuple[Bundle, dict[str, float]]:
    """The bundle with its blend fitted on the validation queries whose item is among the candidates, and what it reaches."""
    found = [_open_candidates(bundle, query) for query in validation]
    places = [np.flatnonzero(one.items == query.label) for one, query in zip(found, validation, strict=True)]
    usable = [(one, int(place[0])) for one, place in zip(found, places, strict=True) if len(place)]
    if usable:
        lengths = np.array([len(one) for one, _ in usable])
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        scores = np.concatenate([one.scores for one, _ in usable])
        totals = np.stack([one.totals for one, _ in usable])
        labels = begins + np.array([place for _, place in usable])
        bundle = replace(bundle, blend=fit_blend(scores, totals, begins, labels, bundle.blend))
    ranks = np.array([_label_rank(bundle, one, place) for one, place in zip(found, places, strict=True)])
    named = (("hit_rate", hit_rate), ("ndcg", ndcg), ("mrr", mrr))
    return bundle, {f"{name}@{k}": float(metric(ranks, k).mean()) for name, metric in named for k in (10, 20)}


def _open_candidates(bundle: Bundle, query: Query) -> Candidates:
    """The candidates that compete for the next place: without the history's items unless these may come again."""
    seen = set() if bundle.repeats else {bundle.item_ids[item] for item in query.history.item}
    return shortlist(bundle, query.history, 1, exclude=seen, limit=_BLEND_CANDIDATES)


def _label_rank(bundle: Bundle, candidates: Candidates, place: NDArray[np.int64]) -> int:
    """How many candidates the blend puts before the one at `place`; UNRANKED where it is not among them."""
    if not len(place):
        return int(UNRANKED)
    score = bundle.blend.score(bundle.blend.features(candidates.scores, candidates.totals))
    return int((score > score[place[0]]).sum())


def _come_back(log: InteractionLog) -> bool:
    """Whether at least `_REPEATS_FROM` of the events that have a history are of an item that is in it."""
    pairs = len(np.unique(log.user.astype(np.int64) * log.n_items + log.item))
    later = len(log) - len(np.unique(log.user))
    return later > 0 and (len(log) - pairs) / later >= _REPEATS_FROM


def sample(rows: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """At most `size` of the rows, in their order."""
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))


def _manifest(log: InteractionLog, item_ids: list[str], version: str, profile: str, seed: int, tuned: Tuned) -> Manifest:
    created_at = time.time_ns() // 1_000_000
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
