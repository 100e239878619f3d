"""Positions of what was taken in: the end of each partition, whatever the order of arrival."""

from hypothesis import given
from hypothesis import strategies as st

from slipstream.contracts.positions import source_name
from slipstream.slates.catalogue.catalog import AppliedPositions

positions = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 9)))


@given(positions)
def test_ends_are_behind_the_last_record_of_each_partition(
    noted: list[tuple[str, int, int]],
) -> None:
    applied = AppliedPositions()
    for topic_id, partition, offset in noted:
        applied.note(source_name(topic_id, partition), offset)
    ends = applied.by_topic()
    for topic_id in {topic_id for topic_id, _, _ in noted}:
        for partition, end in enumerate(ends[topic_id]):
            own = [at for topic, part, at in noted if (topic, part) == (topic_id, partition)]
            assert end == max(own, default=-1) + 1
    assert applied.by_topic() is ends
    applied.note("", 5)
    assert applied.by_topic() is ends, "a record without a source has no position"
    applied.note("a:0", 10)
    assert applied.by_topic()["a"][0] == 11
