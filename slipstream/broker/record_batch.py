"""Encoding of the records of a batch, in the format of Kafka's protocol.

https://kafka.apache.org/documentation/#record
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import encode_varint


def _varint(number: int) -> bytes:
    if 0 <= number < len(_SMALL):
        return _SMALL[number]
    encoded = bytearray()
    encode_varint(number, encoded.append)
    return bytes(encoded)


_SMALL: Sequence[bytes] = ()
_SMALL = [_varint(number) for number in range(8_192)]
_ATTRIBUTES: Final = b"\0"
_NO_VALUE: Final = _varint(-1)


def encoded_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The headers as they stand at the end of a record."""
    parts = [_varint(len(headers))]
    for name, value in headers:
        parts += (_name(name), _varint(len(value)), value)
    return b"".join(parts)


@lru_cache
def _name(name: str) -> bytes:
    encoded = name.encode()
    return _varint(len(encoded)) + encoded


class RecordBatchBuilder(DefaultRecordBatchBuilder):  # type: ignore[misc]
    """kafka-python's builder of a batch, which joins a record's parts instead of writing bytes."""

    _first_timestamp: int | None
    _max_timestamp: int | None

    def append(
        self, offset: int, timestamp: int | None, key: bytes, value: bytes | None, headers: bytes
    ) -> int | None:
        """Write a record at the batch's end; None where the batch has no room for it.

        Args:
            offset: The record's place in the batch.
            timestamp: Its time in ms; None for now.
            key: Its key.
            value: Its value; None for a tombstone.
            headers: Its headers, encoded.

        Returns:
            The bytes that it takes.
        """
        if timestamp is None:
            timestamp = int(time.time() * 1000)
        first = timestamp if self._first_timestamp is None else self._first_timestamp
        record = b"".join(
            (
                _ATTRIBUTES,
                _varint(timestamp - first),
                _varint(offset),
                _varint(len(key)),
                key,
                _NO_VALUE if value is None else _varint(len(value)),
                value or b"",
                headers,
            )
        )
        prefix, buffer = _varint(len(record)), self._buffer
        size = len(prefix) + len(record)
        if self._num_records and size + len(buffer) > self._batch_size:
            return None
        self._first_timestamp = first
        self._max_timestamp = max(timestamp, self._max_timestamp or 0)
        self._num_records += 1
        self._last_offset = offset
        buffer += prefix
        buffer += record
        return size
