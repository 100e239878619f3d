"""How much effort a fit takes, and what that means for data of a given shape. Nothing here knows a
data set by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slipstream.models.base import InteractionLog
from slipstream.models.transformer_parameters import TransformerParameters

# Of fewer events a network learns nothing that rules do not say.
FEWEST_EVENTS = 5_000
_SHORTEST_WINDOW = 10
_LARGE_CATALOGUE = 20_000


@dataclass(frozen=True)
class Profile:
    """How much effort a fit takes."""

    # Validation queries to choose the retrievers' parameters by, at most.
    tuning_queries: int
    # Validation queries to fit blend and ranker on, at most.
    ranking_queries: int
    ease_items: int
    # What the network reads until validation stops it, at most, counted over all epochs; but once
    # the whole log at least.
    events: int
    epochs: int
    # The longest history that it reads.
    window: int
    dim: int
    negatives: int
    # Epochs on everything, once validation has said what is best.
    further: int


PROFILES: Mapping[str, Profile] = {
    "fast": Profile(
        tuning_queries=1_000,
        ranking_queries=3_000,
        ease_items=8_000,
        events=2_000_000,
        epochs=10,
        window=50,
        dim=64,
        negatives=1_000,
        further=1,
    ),
    "best": Profile(
        tuning_queries=3_000,
        ranking_queries=8_000,
        ease_items=15_000,
        events=9_000_000,
        epochs=30,
        window=100,
        dim=96,
        negatives=2_000,
        further=2,
    ),
}


def transformer_parameters(profile: Profile, log: InteractionLog) -> TransformerParameters:
    """A window that holds nearly every history, larger steps where each costs a pass over a large
    catalogue, and as many epochs as the profile allows.
    """
    lengths = np.bincount(log.user)
    window = int(np.clip(np.quantile(lengths[lengths > 0], 0.98), _SHORTEST_WINDOW, profile.window))
    return TransformerParameters(
        dim=profile.dim,
        window=window,
        batch=1_500 if log.n_items <= _LARGE_CATALOGUE else 4_000,
        negatives=profile.negatives,
        epochs=int(np.clip(profile.events // len(log), 1, profile.epochs)),
        further=profile.further,
    )
