from dataclasses import replace

import pytest

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.ranking_features import feature_names
from tests.unit.recommender import small_models


@pytest.fixture(scope="session")
def whole() -> Bundle:
    """A bundle with every kind of retriever and a ranker, whose features have names."""
    bundle = small_models.small_bundle()
    assert bundle.ranking is not None
    names = [*feature_names(list(bundle.retrievers), {})[:-6], "same brand", "same colour"]
    names += feature_names([], {})[-6:]
    return replace(bundle, ranking=replace(bundle.ranking, features=names))
