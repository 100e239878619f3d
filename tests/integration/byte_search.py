"""Search for ids in every byte that servers hold: keys of Redis, and files on the disk."""

import contextlib
import zlib
from collections.abc import Iterable, Iterator
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
    for key in client.scan_iter("*"):
        if namespace.encode() in key:  # Else another test's.
            texts = [key, *_texts(client, key)]
            if any(each in text for text in texts for each in wanted):
                yield f"redis {key!r}"
    client.close()


def files_with(ids: Iterable[str], folder: Path) -> Iterator[str]:
    """The files below a folder that hold one of these ids."""
    wanted = [each.encode() for each in ids]
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # Servers delete files meanwhile.
            if path.is_file() and any(each in _content(path) for each in wanted):
                yield str(path)


def _texts(client: Any, key: bytes) -> Iterator[bytes]:
    """The values of a key, and what states hold packed."""
    kind = client.type(key)
    if kind == b"string":
        value = client.get(key)
        if value is None:
            return  # It has expired since.
        yield value
        with contextlib.suppress(zlib.error):
            yield zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS)
    elif kind == b"hash":
        for pair in client.hgetall(key).items():
            yield from pair
    elif kind == b"set":
        yield from client.smembers(key)
    elif kind != b"none":  # Nothing is left of a key that has expired since the scan.
        assert kind == b"zset", kind
        yield from client.zrange(key, 0, -1)


def _content(path: Path) -> bytes:
    """A file's bytes, with what a Parquet file holds packed."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content += repr(pq.read_table(path, partitioning=None).to_pylist()).encode()
    return content
