"""Search for ids in every byte that servers hold: keys of Redis, and files on the disk."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.connection import connect
from slipstream.stores.layout import REVISION_BYTES


def keys_with(ids: Iterable[str], redis_settings: RedisSettings, namespace: str) -> Iterator[str]:
    """The keys of the namespace in Redis that hold one of these ids, in the key or the value."""
    wanted = [each.encode() for each in ids]
    client = connect(redis_settings)
    # Else another test's.
    ours = (key for key in client.scan_iter("*", count=1_000) if namespace.encode() in key)
    for keys in iter(lambda: list(islice(ours, 500)), []):
        for key, texts in zip(keys, _texts(client, keys), strict=True):
            if any(each in text for text in (key, *texts) for each in wanted):
                yield f"redis {key!r}"
    client.close()


def files_with(ids: Iterable[str], folder: Path) -> Iterator[str]:
    """The files below a folder that hold one of these ids."""
    wanted = [each.encode() for each in ids]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # Servers delete files meanwhile.
            if path.is_file() and any(each in _content(path) for each in wanted):
                yield str(path)


def _texts(client: Any, keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The values of each key, and what states hold packed; all are read in two round trips."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.type(key)
    # Nothing is left of a key that has expired since the scan.
    for key, kind in zip(keys, pipeline.execute(), strict=True):
        match kind:
            case b"hash":
                pipeline.hgetall(key)
            case b"set":
                pipeline.smembers(key)
            case b"zset":
                pipeline.zrange(key, 0, -1)
            case _:
                assert kind in (b"string", b"none"), kind
                pipeline.get(key)
    for value in pipeline.execute():
        if isinstance(value, dict):
            yield [text for pair in value.items() for text in pair]
        elif isinstance(value, bytes):
            texts = [value]
            with contextlib.suppress(zlib.error):
                texts.append(zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS))
            yield texts
        else:
            yield [*(value or ())]


def _content(path: Path) -> bytes:
    """A file's bytes, with what a Parquet file holds packed."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
    return content
