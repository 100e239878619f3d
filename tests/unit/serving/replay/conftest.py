"""Models of a shop, for answers of the past that are made again."""

import pyarrow as pa
import pytest

from slipstream.recommender.fit import FitOptions, fit
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.fakes import SHELVES, described_bundle, interactions, model


@pytest.fixture(scope="session")
def models() -> tuple[Model, Model]:
    """The model of the beginning, and the one that is promoted later."""
    items = pa.table({"item_id": list(SHELVES), "shelf": list(SHELVES.values())})
    later = fit(interactions().slice(0, 300), items, FitOptions(version="8", repeats=True))
    return model(described_bundle(), "7"), model(later, "8")
