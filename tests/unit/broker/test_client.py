"""Batches have the bytes of kafka-python's own builder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from slipstream.broker.client import RecordBatchBuilder, encoded_headers

RECORDS = st.tuples(
    st.integers(-10_000, 10_000_000_000).map(lambda ms: 1_760_000_000_000 + ms),
    st.binary(max_size=100),
    st.none() | st.binary(max_size=100) | st.binary(min_size=8_150, max_size=8_250),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=70)), max_size=3),
)


@pytest.mark.parametrize("compression", [0, 3])
@given(records=st.lists(RECORDS, min_size=1, max_size=12), room=st.integers(100, 30_000))
def test_batches_are_those_of_the_library(
    compression: int,
    records: list[tuple[int, bytes, bytes | None, list[tuple[str, bytes]]]],
    room: int,
) -> None:
    arguments = (2, compression, False, 7, 1, 40, room)
    ours, theirs = RecordBatchBuilder(*arguments), DefaultRecordBatchBuilder(*arguments)
    for offset, (timestamp, key, value, headers) in enumerate(records):
        size = ours.append(offset, timestamp, key, value, encoded_headers(headers))
        expected = theirs.append(offset, timestamp, key, value, headers)
        assert size == (expected and expected.size)
        if expected is None:
            break
    assert bytes(ours.build()) == bytes(theirs.build())


def test_a_record_without_a_time_has_the_present_one() -> None:
    builder = RecordBatchBuilder(2, 0, False, -1, -1, -1, 1_000)
    builder.append(0, None, b"ada", None, encoded_headers([]))
    (record,) = MemoryRecords(bytes(builder.build())).next_batch()
    assert (record.key, record.value, record.headers) == (b"ada", None, [])
    assert record.timestamp > 1_760_000_000_000
