"""Fitting a bundle again on another log, by the parameters, blend and ranker that it has.

A bundle that was judged on a part of the events is so shipped fitted on all of them, at a fraction
of the time of a new fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.progress import Progress
from slipstream.contracts.times import now_ms
from slipstream.models.base import InteractionLog
from slipstream.models.baskets import fit_baskets
from slipstream.models.content import fit_terms
from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.network import NETWORK, go_on
from slipstream.recommender.ranking_features import item_table
from slipstream.recommender.tuning import RetrieverParameters, fit_retrievers

if TYPE_CHECKING:
    from scipy import sparse


def new_manifest(
    log: InteractionLog, version: str, profile: str, seed: int, parameters: RetrieverParameters
) -> Manifest:
    """The manifest of models that are fitted on a log.

    Args:
        log: All events that the models are fitted on.
        version: Version of the bundle; empty names it by the time.
        profile: Name of the effort that the fit takes.
        seed: Seed of the fit.
        parameters: Parameters of the retrievers.
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


def network_parameters(manifest: Manifest) -> TransformerParameters | None:
    """The parameters that the bundle's network was trained with; None where it has no network."""
    values = manifest.parameters.get("network")
    return TransformerParameters(**values) if isinstance(values, dict) else None  # type: ignore[arg-type]


# Terms of the items that the network learns vectors of: the fewest items with a term, and how many
# terms at most.
_RAREST_TERM, _MOST_TERMS = 3, 5_000


def refit(bundle: Bundle, log: InteractionLog, progress: Progress = lambda _: None) -> Bundle:
    """The same recommender, fitted on another log of the same catalogue.

    `progress` tells which share of the network's epochs is done. Raises ValueError for a log of
    another number of items.
    """
    if log.n_items != len(bundle.item_ids):
        raise ValueError(f"the log is of {log.n_items} items, the bundle of {len(bundle.item_ids)}")
    old = bundle.manifest
    parameters = RetrieverParameters.of(old.parameters)
    manifest = new_manifest(log, old.version, old.profile, old.seed, parameters)
    manifest = manifest.model_copy(
        update={"metrics": old.metrics, "parameters": {**manifest.parameters, **old.parameters}}
    )
    descriptions = describe(bundle.item_ids, bundle.attributes or {})
    return fitted_on(
        replace(bundle, manifest=manifest),
        log,
        parameters,
        network_parameters(old),
        item_terms(descriptions),
        progress,
    )


def fitted_on(
    bundle: Bundle,
    log: InteractionLog,
    parameters: RetrieverParameters,
    network: TransformerParameters | None,
    terms: "sparse.csr_array[Any, Any] | None",
    progress: Progress,
) -> Bundle:
    """The bundle with its retrievers fitted on another log; blend and ranker stay.

    Args:
        bundle: Bundle with the retrievers, blend and ranker to keep.
        log: Events to fit on, of the bundle's catalogue.
        parameters: Parameters of the retrievers.
        network: Parameters of the network, which is trained further; None where there is none.
        terms: Terms of the items, (items, terms), for the network.
        progress: Gets the share of the network's further epochs that is done.
    """
    fitted = fit_retrievers(
        log,
        parameters,
        bundle.retrievers.get("content"),
        repeats=bundle.repeats,
        names=set(bundle.retrievers),
    )
    before = bundle.retrievers.get(NETWORK)
    if isinstance(before, Transformer) and network is not None:
        fitted[NETWORK] = go_on(
            before, log, network, terms=terms, progress=progress, seed=bundle.manifest.seed
        )
    ranking = bundle.ranking
    if ranking is not None:
        ranking = replace(ranking, items=item_table(log, bundle.item_ids, bundle.attributes or {}))
    return replace(
        bundle,
        retrievers={name: fitted[name] for name in bundle.retrievers},
        ranking=ranking,
        baskets=fit_baskets(log),
    )


def describe(
    item_ids: Sequence[str], attributes: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The attributes of each item in the catalogue's order; empty where no item has any."""
    return [attributes.get(item_id, {}) for item_id in item_ids] if attributes else []


def item_terms(
    descriptions: Sequence[Mapping[str, Any]],
) -> "sparse.csr_array[Any, Any] | None":
    """The terms that the network learns vectors of, (items, terms); None without descriptions."""
    found = fit_terms(descriptions, _RAREST_TERM, _MOST_TERMS) if descriptions else None
    return found.vectors if found else None
