"""Partitions that records of a topic go to."""

import pytest

from slipstream.contracts.topics import CATALOG, INTERACTIONS


@pytest.mark.parametrize(("present", "used"), [(0, 0), (6, 6), (12, 12), (24, 12)])
def test_a_compacted_topic_does_not_use_partitions_that_were_added(present: int, used: int) -> None:
    assert CATALOG.spread(present) == used
    assert INTERACTIONS.spread(present) == present
