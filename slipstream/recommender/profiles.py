"""Effort of a fit, and the network's parameters that follow from it and the data's shape.

Nothing here knows a data set by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slipstream.models.base import InteractionLog
from slipstream.models.transformer import TransformerParameters

# From fewer events a network learns nothing that rules do not know.
FEWEST_EVENTS = 5_000
_SHORTEST_WINDOW = 10
_LARGE_CATALOGUE = 20_000
# A network is held back most with so few events for each item and so many epochs.
_FEW_EVENTS = 20
_MANY_EPOCHS = 20
# Scarcity from which a second network is worth its time.
_SCARCE = 0.5


@dataclass(frozen=True)
class Profile:
    """Limits on the effort of a fit.

    Attributes:
        tuning_queries: Most validation queries that the retrievers' parameters are chosen on.
        ranking_queries: Most validation queries that blend and ranker are fitted on.
        ease_items: Most items that EASE is solved for.
        events: Most events that the network reads until validation stops it, over all epochs; but
            the whole log once at least.
        epochs: Most epochs of the network.
        window: Longest history that the network reads, in events.
        dim: Length of the network's vectors.
        networks: Most networks, which differ by their seed.
        negatives: Items drawn for each step to stand for a large catalogue.
    """

    tuning_queries: int
    ranking_queries: int
    ease_items: int
    events: int
    epochs: int
    window: int
    dim: int
    networks: int
    negatives: int


PROFILES: Mapping[str, Profile] = {
    "fast": Profile(
        tuning_queries=1_000,
        ranking_queries=3_000,
        ease_items=8_000,
        events=2_000_000,
        epochs=10,
        window=50,
        dim=64,
        networks=1,
        negatives=1_000,
    ),
    "best": Profile(
        tuning_queries=3_000,
        ranking_queries=8_000,
        ease_items=15_000,
        events=9_000_000,
        epochs=30,
        window=100,
        dim=96,
        networks=2,
        negatives=2_000,
    ),
}


def scarcity(log: InteractionLog) -> float:
    """How few events there are for each item, from 0 for many to 1 for `_FEW_EVENTS` or fewer."""
    return min(1.0, _FEW_EVENTS * log.n_items / len(log))


def networks(profile: Profile, log: InteractionLog) -> int:
    """The number of networks: a second one brings nothing where events are many for each item."""
    return profile.networks if scarcity(log) >= _SCARCE else 1


def transformer_parameters(profile: Profile, log: InteractionLog) -> TransformerParameters:
    """The network's parameters for this log.

    The window holds 98 % of the histories, up to the profile's. Batches are larger in a large
    catalogue, so that an epoch has fewer steps. The epochs are as many as the profile allows. The
    network is held back from learning the events by heart: the more, the fewer there are for each
    item, and the more epochs read them. Items are in a step without their own vectors by the first
    alone: that is for items that have no events yet.
    """
    lengths = np.bincount(log.user)
    window = int(np.clip(np.quantile(lengths[lengths > 0], 0.98), _SHORTEST_WINDOW, profile.window))
    epochs = int(np.clip(profile.events // len(log), 1, profile.epochs))
    repetition = min(1.0, epochs / _MANY_EPOCHS)
    scarce = scarcity(log)
    held = scarce * repetition
    return TransformerParameters(
        dim=profile.dim,
        window=window,
        dropout=0.2 * repetition + 0.2 * held,
        weight_decay=0.01 + 0.29 * held,
        ahead=0.15 * held,
        unnamed=0.2 * scarce,
        batch=1_500 if log.n_items <= _LARGE_CATALOGUE else 4_000,
        negatives=profile.negatives,
        epochs=epochs,
    )
