"""Rows on disk in buckets by the hash of an id.

All rows of an id can so be read together, without the rows of all others in memory.
"""

import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def bucket_of(ids: pa.Array, buckets: int) -> NDArray[np.int64]:
    """The number of each id's bucket, which is the same in every process."""
    encoded = ids.dictionary_encode()
    hashed = np.array(
        [zlib.crc32(each.encode()) % buckets for each in encoded.dictionary.to_pylist()], np.int64
    )
    numbers: NDArray[np.int64] = hashed[encoded.indices.to_numpy(zero_copy_only=False)]
    return numbers


class Buckets:
    """Rows that are written once, then read bucket by bucket, each any number of times."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema, buckets: int) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self.buckets = buckets
        self._writers: dict[int, Any] = {}

    def add(self, batch: pa.RecordBatch, numbers: NDArray[np.int64]) -> None:
        """Put each row into the bucket whose number stands at its index."""
        order = np.argsort(numbers, kind="stable")
        ordered = batch.take(pa.array(order))
        starts = np.searchsorted(numbers[order], np.arange(self.buckets + 1))
        for bucket, (begin, end) in enumerate(pairwise(starts)):
            if end > begin:
                self._writer(bucket).write_batch(ordered.slice(begin, end - begin))

    def read(self, bucket: int) -> pa.Table:
        """All rows of a bucket, in the order in which they were added.

        No rows can be added after the first read.
        """
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        path = self._path(bucket)
        if not path.exists():
            return self._schema.empty_table()
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()

    def _writer(self, bucket: int) -> Any:
        if bucket not in self._writers:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[bucket] = pa.ipc.new_stream(
                str(self._path(bucket)), self._schema, options=options
            )
        return self._writers[bucket]

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{self._name}-{bucket:05}.arrows"
