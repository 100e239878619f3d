import numpy as np

from slipstream.models.base import EventWeights, History
from slipstream.recommender import encoding
from slipstream.recommender.ranking_features import feature_names, item_table, ranking_features
from tests.unit.recommender.chain import ITEMS, chain_interactions, chain_items


def test_each_column_has_a_name() -> None:
    interactions, items = chain_interactions(visitors=20), chain_items()
    item_ids = encoding.met_items(interactions, EventWeights())
    attributes = encoding.attributes(items, item_ids)
    table = item_table(
        encoding.encode(interactions, item_ids, EventWeights()), item_ids, attributes
    )
    names = feature_names(["rules", "ease"], attributes)
    history = History(np.array([3, 4], np.int32), np.ones(2, np.float32), np.array([0, 60_000]))
    result = ranking_features(
        table, history, np.arange(ITEMS, dtype=np.int32), np.zeros((ITEMS, 2), np.float32)
    )
    assert len(names) == len(set(names)) == result.shape[1]
    of = dict(zip(names, result.T, strict=True))
    assert np.flatnonzero(of["seen"]).tolist() == [3, 4]
    # The latest item counts twice as much as the one before; each shares its colour with the eighth
    # of the ring.
    assert of["same colour"][3] < of["same colour"][4] == of["same colour"][9]
    np.testing.assert_allclose(of["history length"], np.log1p(2), rtol=1e-6)
