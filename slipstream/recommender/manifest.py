"""Manifest of a fitted bundle: data and parameters, written by a fit and read by a refit."""

from dataclasses import asdict

import numpy as np

from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.times import now_ms
from slipstream.models.base import InteractionLog
from slipstream.models.transformer_parameters import TransformerParameters
from slipstream.recommender.tuning import RetrieverParameters


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
