"""Packing of a state into bytes: revision, format, and deflated JSON arrays without field names."""

import zlib
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

import orjson

from slipstream.contracts.positions import source_name, split_source
from slipstream.features import tiles as tiling
from slipstream.features.tiles import OTHER, Tiles, TileSize

REVISION_BYTES: Final = 8
# States without tiles and neighbours. They are still read, and written again in the second format.
FIRST_FORMAT: Final = 1
SECOND_FORMAT: Final = 2
# Visitors with impressions. All other states are written in the second format, so that versions
# that know no other read them.
THIRD_FORMAT: Final = 3
# Bytes that formats may have: of states, and of markers (`layout`). They are no text, which another
# program may have written.
_FORMATS: Final = frozenset({*range(FIRST_FORMAT, 0x20), *range(0xF1, 0xF8)})
# The same sources come again in every state.
_source_name = lru_cache(maxsize=4096)(source_name)
_split_source = lru_cache(maxsize=4096)(split_source)


class LayoutError(ValueError):
    """The bytes are no state: they are damaged, or another program wrote them."""


class NewerLayoutError(ValueError):
    """The bytes are a state in a format that this version does not know yet.

    It is no `LayoutError`: what is damaged can be passed over, what is newer must not be.
    """


def pack(revision: bytes, parts: list[Any], form: int = SECOND_FORMAT) -> bytes:
    """The value of a state. Parts are what JSON can hold, `form` is the format's byte."""
    # A state is small: with a small window and little memory deflate takes a fifth of the time, for
    # the same length.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
    return revision + form.to_bytes() + deflate.compress(orjson.dumps(parts)) + deflate.flush()


def unpack(value: bytes, lengths: Mapping[int, int]) -> list[Any]:
    """The parts of a state; `lengths` has their number in each format that this kind of state has.

    Raises `LayoutError`, and `NewerLayoutError` for a later format than those.
    """
    form = int.from_bytes(value[REVISION_BYTES : REVISION_BYTES + 1])
    length = lengths.get(form)
    if length is None:
        if form in _FORMATS:
            raise NewerLayoutError(f"format {form}; this version knows those up to {max(lengths)}")
        raise LayoutError(f"unknown format {value[REVISION_BYTES : REVISION_BYTES + 1]!r}")
    try:
        parts = orjson.loads(zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS))
    except (zlib.error, orjson.JSONDecodeError) as error:
        raise LayoutError(f"unreadable: {error}") from error
    if not isinstance(parts, list) or len(parts) != length:
        raise LayoutError(f"expected {length} parts")
    return parts


def pack_applied(applied: dict[str, int]) -> dict[str, list[int]]:
    """Offsets by source, with each topic's id once: partition, offset, partition, offset, ..."""
    topics: dict[str, list[int]] = {}
    for source, offset in applied.items():
        topic_id, partition = _split_source(source)
        topics.setdefault(topic_id, []).extend((partition, offset))
    return topics


def unpack_applied(topics: dict[str, list[int]]) -> dict[str, int]:
    """The offsets that `pack_applied` packed."""
    return {
        _source_name(topic_id, partition): offset
        for topic_id, numbers in topics.items()
        for partition, offset in zip(numbers[::2], numbers[1::2], strict=True)
    }


def pack_tiles(tiles: Tiles) -> list[Any]:
    """The newest tile's number, and the counts of each group; empty for no counts."""
    return [tiles.newest, *tiles.counts] if tiles.counts else []


def unpack_tiles(packed: list[Any]) -> Tiles:
    """The tiles that `pack_tiles` packed."""
    return Tiles(packed[0], packed[1:]) if packed else Tiles()


def untyped_tiles(buckets: list[int], size: TileSize) -> Tiles:
    """Tiles from buckets of the first format: gap to the bucket before, count, gap, count, ..."""
    tiles = Tiles()
    for at, count in zip(accumulate(buckets[::2]), buckets[1::2], strict=True):
        tiling.add(tiles, size, at * size.ms, OTHER, count)
    return tiles
