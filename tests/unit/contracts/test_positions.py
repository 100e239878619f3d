"""The names of sources, which states and the lake keep."""

import pytest

from slipstream.contracts.positions import Source, id_of_log, source_name, split_source


@pytest.mark.parametrize("topic_id", ["b3a1f0c2-0f8e-4c0b-9d5a-7c1e2f3a4b5c", "a:b", ""])
def test_a_sources_name_holds_its_topic_id_and_partition(topic_id: str) -> None:
    name = source_name(topic_id, 11)
    assert name == f"{topic_id}:11"
    assert split_source(name) == (topic_id, 11)
    assert Source("interactions.v1", topic_id, 11).name == name


def test_a_log_that_parted_has_the_epoch_of_that_in_its_name() -> None:
    source = Source("interactions.v1", "id", 11)
    parted = source.since(5)
    assert (source.parted_at, parted.parted_at, parted.since(12).parted_at) == (-1, 5, 12)
    assert parted.since(12) == source.since(12)
    assert split_source(parted.name) == ("id~5", 11)
    assert id_of_log("id~5") == id_of_log("id") == "id"
