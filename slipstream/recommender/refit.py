"""Fitting a bundle again on another log, by the parameters, blend and ranker that it has.

A bundle that was judged on a part of the events is so shipped fitted on all of them, and a champion
is fitted on a day's new events, without the time of choosing again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.progress import Progress
from slipstream.contracts.times import now_ms
from slipstream.models.base import InteractionLog
from slipstream.models.baskets import fit_baskets
from slipstream.models.content import FittedTerms, fit_content, fit_content_index, fit_terms
from slipstream.models.content_index import ContentIndex
from slipstream.models.repurchases import Repurchases, fit_repurchases
from slipstream.models.transformer import TransformerParameters
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.network import NETWORKS, TrainingData, learn_again
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.tuning import RetrieverParameters, fit_retrievers


def new_manifest(
    log: InteractionLog, version: str, profile: str, seed: int, parameters: RetrieverParameters
) -> Manifest:
    """The manifest of models that are fitted on a log. An empty version names the bundle by the
    time.
    """
    created_at = now_ms()
    return Manifest(
        version=version or f"v{created_at}",
        created_at=created_at,
        profile=profile,
        seed=seed,
        data=DataSummary(
            visitors=len(np.unique(log.user)),
            items=log.n_items,
            events=len(log),
            from_=int(log.timestamp.min()),
            until=int(log.timestamp.max()),
        ),
        parameters=asdict(parameters),
    )


# Terms of the items that the network learns vectors of: the fewest items with a term, and how many
# terms at most.
_RAREST_TERM, _MOST_TERMS = 3, 5_000


def refit(
    bundle: Bundle,
    log: InteractionLog,
    item_ids: list[str],
    attributes: Mapping[str, Mapping[str, Any]],
    version: str = "",
    checkpoints: Path | None = None,
    served_on: TrainingData | None = None,
    progress: Progress = lambda _: None,
) -> Bundle:
    """The same recommender, fitted on another log: parameters, blend and ranker stay.

    Args:
        log: Events to fit on, of a catalogue of `item_ids`.
        attributes: Attributes by item id, of the items that have any.
        version: Version of the new bundle; empty keeps that of `bundle`.
        checkpoints: Directory in which an interrupted fit finds its network again.
        served_on: Data of a refit that will follow, see `FitOptions`.
        progress: Gets the share of the network's epochs that is done.

    Raises:
        ValueError: The log is of another number of items.
    """
    if log.n_items != len(item_ids):
        raise ValueError(f"the log is of {log.n_items} items, the catalogue of {len(item_ids)}")
    old = bundle.manifest
    parameters = RetrieverParameters.of(old.parameters)
    manifest = new_manifest(log, version or old.version, old.profile, old.seed, parameters)
    manifest = manifest.model_copy(
        update={"metrics": old.metrics, "parameters": {**manifest.parameters, **old.parameters}}
    )
    descriptions = describe(item_ids, attributes)
    retrievers = dict(bundle.retrievers)
    if "content" in retrievers:
        retrievers["content"] = fit_content(descriptions or [{}] * log.n_items)
    known = replace(
        bundle,
        manifest=manifest,
        item_ids=item_ids,
        attributes=attributes or None,
        retrievers=retrievers,
        content=content_index(log, descriptions),
    )
    values: Any = old.parameters.get("network")
    network = TransformerParameters(**values) if values else None
    return fitted_on(
        known, log, parameters, network, descriptions, checkpoints, progress, served_on
    )


def fitted_on(
    bundle: Bundle,
    log: InteractionLog,
    parameters: RetrieverParameters,
    network: TransformerParameters | None,
    descriptions: Sequence[Mapping[str, Any]],
    checkpoints: Path | None,
    progress: Progress,
    served_on: TrainingData | None = None,
) -> Bundle:
    """The bundle with its retrievers fitted on another log; blend and ranker stay. Without network
    parameters the networks stay. `descriptions` is empty where no item has any. `checkpoints` and
    `served_on` are as in `FitOptions`.
    """
    fitted = fit_retrievers(
        log,
        parameters,
        bundle.retrievers.get("content"),
        repeats=bundle.repeats,
        names=set(bundle.retrievers),
    )
    networks = [name for name in NETWORKS if name in bundle.retrievers]
    if networks and network is not None:
        fitted |= learn_again(
            log,
            network,
            networks,
            terms=item_terms(descriptions),
            checkpoints=checkpoints,
            served_on=served_on,
            seed=bundle.manifest.seed,
            progress=progress,
        )
    ranking = bundle.ranking
    if ranking is not None:
        ranking = replace(ranking, items=item_table(log, bundle.item_ids, bundle.attributes or {}))
    return replace(
        bundle,
        retrievers={**bundle.retrievers, **fitted},
        ranking=ranking,
        baskets=fit_baskets(log),
        repurchases=repurchases_of(log, bundle.item_ids, bundle.attributes or {}),
    )


def content_index(
    log: InteractionLog, descriptions: Sequence[Mapping[str, Any]]
) -> ContentIndex | None:
    """The index of items by their terms, for items that come later; None without descriptions."""
    if not descriptions:
        return None
    return fit_content_index(descriptions, np.bincount(log.item, minlength=log.n_items))


def repurchases_of(
    log: InteractionLog, item_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> Repurchases | None:
    """When the items are bought again, by the first category of each."""
    described = (attributes.get(item_id, {}) for item_id in item_ids)
    listed = (each.get("categories") or each.get("category") or "" for each in described)
    return fit_repurchases(log, [str(e[0] if isinstance(e, list) else e) for e in listed])


def describe(
    item_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The attributes of each item in the catalogue's order; empty where no item has any."""
    return [attributes.get(item_id, {}) for item_id in item_ids] if attributes else []


def item_terms(descriptions: Sequence[Mapping[str, Any]]) -> FittedTerms | None:
    """The terms that the network learns vectors of; None without descriptions."""
    return fit_terms(descriptions, _RAREST_TERM, _MOST_TERMS) if descriptions else None
