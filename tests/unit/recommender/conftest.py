import pytest

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit
from tests.unit.recommender.chain import chain_interactions, chain_items


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return fit(
        chain_interactions(), chain_items("new-mauve"), FitOptions(version="chain", repeats=False)
    )
