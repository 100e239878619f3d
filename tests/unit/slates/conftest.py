import pytest

from slipstream.recommender.bundle import Bundle
from tests.unit.serving import fakes


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return fakes.small_bundle()
