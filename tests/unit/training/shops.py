"""Recommenders that know nothing but what is popular: quick to make, and what they answer is plain
to see.
"""

import numpy as np

from services.training.run.dataset import Moment
from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.models.blend import initial_blend
from slipstream.models.popularity import Popularity
from slipstream.recommender.bundle import Bundle


def ordered(*item_ids: str) -> Bundle:
    """Recommends the items in this order to everyone, without those that the visitor had."""
    popularity = Popularity(
        np.arange(len(item_ids), 0, -1, dtype=np.float32), np.arange(len(item_ids), dtype=np.int32)
    )
    manifest = Manifest(
        version="v",
        created_at=0,
        profile="fast",
        data=DataSummary(visitors=1, items=len(item_ids), events=1),
    )
    return Bundle(manifest, list(item_ids), {"popularity": popularity}, initial_blend([True]))


def moment(item_id: str, *seen: str, user_id: str = "v") -> Moment:
    """A visitor who had seen these items, and met that one next."""
    sequence = [SequenceEvent(one, "view", place) for place, one in enumerate(seen)]
    return Moment(VisitorState(sequence), item_id, len(seen), user_id)
