"""The names of sources, which states and the lake keep."""

import pytest

from slipstream.contracts.positions import Source, source_name, split_source


@pytest.mark.parametrize("topic_id", ["b3a1f0c2-0f8e-4c0b-9d5a-7c1e2f3a4b5c", "a:b", ""])
def test_a_sources_name_holds_its_topic_id_and_partition(topic_id: str) -> None:
    name = source_name(topic_id, 11)
    assert name == f"{topic_id}:11"
    assert split_source(name) == (topic_id, 11)
    assert Source("interactions.v1", topic_id, 11).name == name
