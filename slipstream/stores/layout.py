"""How states are laid out in Redis: the keys, and the bytes of a state.

A state is one string value: an 8-byte revision, a byte for the format, then deflated JSON arrays
without field names (times as gaps, types as places in the list of counts). One value and not a hash
of fields, since Redis keeps a hash with a field over 64 bytes in a table: that costs 230 bytes more
a visitor (docs/adr/0004-exactly-once-effect.md has the measurement).
"""

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate, repeat
from operator import sub
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import source_name, split_source
from slipstream.features import decay
from slipstream.features import tiles as tiling
from slipstream.features.item import DAYS, HOURS, ItemState
from slipstream.features.tiles import OTHER, Tiles, TileSize
from slipstream.features.visitor import SequenceEvent, VisitorState

REVISION_BYTES: Final = 8
# Without tiles and neighbours; such states are still read, and written anew in today's format.
_FIRST_FORMAT: Final = b"\x01"
_FORMAT: Final = b"\x02"
# The format of a marker that stands in a merged visitor's place.
_MOVED: Final = b"\xf0"
_chance = (
    random.Random()
)  # seeded by the system; asking the system for each takes ten times as long
# The same sources come again in every state.
_source_name = lru_cache(maxsize=4096)(source_name)
_split_source = lru_cache(maxsize=4096)(split_source)
_sequence_event = partial(tuple.__new__, SequenceEvent)


class LayoutError(ValueError):
    """The bytes are not a state in a format known here: a newer version wrote them, or somebody
    else did.
    """


@dataclass(slots=True)
class TrendingState:
    """What stands beside the trending scores: `applied` as in `slipstream.features.applied`,
    `newest` event time in ms, and the half-life that the scores were made with.
    """

    applied: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    half_life_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Moved:
    """Stands in a visitor's place once it is known to be the visitor `to`. While `state` is there,
    it is not yet certain that the other has taken it in.
    """

    to: str
    state: VisitorState | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace. Only the two of trending are touched together, so only they share
    a hash tag.
    """

    namespace: str

    def visitor(self, user_id: str) -> str:
        return f"{self.namespace}:visitor:{user_id}"

    def item(self, item_id: str) -> str:
        return f"{self.namespace}:item:{item_id}"

    def catalog(self, entity: str, entity_id: str) -> str:
        return f"{self.namespace}:catalog:{entity}:{entity_id}"

    def catalog_index(self, entity: str) -> str:
        return f"{self.namespace}:catalog-ids:{entity}"

    @property
    def hold(self) -> str:
        """There while nothing is to be applied: see `slipstream.stores.rebuild`."""
        return f"{self.namespace}:hold"

    @property
    def trending(self) -> str:
        return f"{{{self.namespace}:trending}}:state"

    @property
    def trending_scores(self) -> str:
        return f"{{{self.namespace}:trending}}:scores"


def new_revision() -> bytes:
    """A revision that no value had before. Random, not a count: a value that expired and began anew
    is not taken for the old.
    """
    return _chance.randbytes(REVISION_BYTES)


def revision_of(value: bytes | None) -> bytes:
    """The revision of a stored value; empty for none."""
    return value[:REVISION_BYTES] if value else b""


def encode_visitor(state: VisitorState, revision: bytes) -> bytes:
    places = {name: place for place, name in enumerate(state.counts)}
    items, types, times, values = (
        zip(*state.sequence, strict=True) if state.sequence else ((), (), (), ())
    )
    recent = [
        state.last_seen - state.recent[name] if name in state.recent else -1
        for name in state.counts
    ]
    return _pack(
        revision,
        [
            _pack_held(state),
            state.counts,
            state.first_seen,
            state.last_seen - state.first_seen,
            items,
            [*map(places.__getitem__, types)],
            [*map(sub, times, (state.first_seen, *times))],
            () if values.count(None) == len(values) else values,
            recent,
            [_pack_tiles(tiles) for tiles in state.tiles],
        ],
    )


def decode_visitor(value: bytes) -> VisitorState:
    """Raises `LayoutError`. A state in the first format has no tiles, and of recent types those of
    its sequence.
    """
    parts = _unpack(value, 8, 10)
    applied, counts, first_seen, span, items, types, gaps, values = parts[:8]
    names = list(counts)
    times = accumulate(gaps, initial=first_seen)
    next(times)
    rows = zip(
        items, map(names.__getitem__, types), times, values or repeat(None, len(items)), strict=True
    )
    sequence = [*map(_sequence_event, rows)]
    last_seen = first_seen + span
    if len(parts) == 8:
        recent, tiles = {event.event_type: event.timestamp for event in sequence}, []
    else:
        recent = {
            name: last_seen - gap for name, gap in zip(names, parts[8], strict=True) if gap >= 0
        }
        tiles = [_unpack_tiles(packed) for packed in parts[9]]
    held, merged = _unpack_held(applied)
    return VisitorState(sequence, counts, first_seen, last_seen, held, recent, tiles, merged)


def encode_moved(moved: Moved, revision: bytes) -> bytes:
    to = moved.to.encode()
    state = encode_visitor(moved.state, b"") if moved.state is not None else b""
    return revision + _MOVED + len(to).to_bytes(2) + to + state


def decode_known(value: bytes) -> VisitorState | Moved:
    """What a visitor's key holds: a state, or where it has gone. Raises `LayoutError`."""
    if value[REVISION_BYTES : REVISION_BYTES + 1] != _MOVED:
        return decode_visitor(value)
    start = REVISION_BYTES + 3
    end = start + int.from_bytes(value[start - 2 : start])
    to, state = value[start:end], value[end:]
    return Moved(to.decode(), decode_visitor(bytes(REVISION_BYTES) + state) if state else None)


def encode_item(state: ItemState, revision: bytes) -> bytes:
    masses = [*state.neighbours.values()]
    return _pack(
        revision,
        [
            _pack_applied(state.applied),
            state.counts,
            state.mass,
            _pack_tiles(state.hours),
            _pack_tiles(state.days),
            state.first_seen,
            state.last_seen - state.first_seen,
            [*state.neighbours],
            [*map(sub, masses, (0, *masses))],
        ],
    )


def decode_item(value: bytes) -> ItemState:
    """Raises `LayoutError`. A state in the first format has no neighbours, and its windows do not
    know types.
    """
    parts = _unpack(value, 7, 9)
    applied, counts, mass, hours, days, first_seen, span = parts[:7]
    if len(parts) == 7:
        return ItemState(
            counts,
            mass,
            _untyped(hours, HOURS),
            _untyped(days, DAYS),
            first_seen,
            first_seen + span,
            _unpack_applied(applied),
        )
    others, gaps = parts[7:]
    return ItemState(
        counts,
        mass,
        _unpack_tiles(hours),
        _unpack_tiles(days),
        first_seen,
        first_seen + span,
        _unpack_applied(applied),
        dict(zip(others, accumulate(gaps), strict=True)),
    )


def encode_trending(state: TrendingState, revision: bytes) -> bytes:
    return _pack(revision, [_pack_applied(state.applied), state.newest, state.half_life_ms])


def decode_trending(value: bytes) -> TrendingState:
    """Raises `LayoutError`."""
    applied, newest, half_life_ms = _unpack(value, 3, 3)
    return TrendingState(_unpack_applied(applied), newest, half_life_ms)


def worth(scores: Sequence[tuple[bytes, float]], state: bytes | None) -> list[tuple[str, float]]:
    """Trending items with their weight at the newest event, from the scores and the value of the
    state.
    """
    if not scores or state is None:
        return []
    trending = decode_trending(state)
    return [
        (item_id.decode(), decay.value(mass, trending.newest, trending.half_life_ms))
        for item_id, mass in scores
    ]


def decode_catalog(value: bytes | None) -> CatalogRecord | None:
    """The record of a catalogue entry's `record` field; None for no entry."""
    return None if value is None else CatalogRecord.model_validate_json(value)


def _pack(revision: bytes, parts: list[Any]) -> bytes:
    # A state is small: with a small window and little memory deflate takes a fifth of the time, for
    # the same length.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
    return revision + _FORMAT + deflate.compress(orjson.dumps(parts)) + deflate.flush()


def _unpack(value: bytes, first: int, now: int) -> list[Any]:
    """The parts of a state: `first` of them in the first format, `now` in today's."""
    known = {_FIRST_FORMAT: first, _FORMAT: now}.get(value[REVISION_BYTES : REVISION_BYTES + 1])
    if known is None:
        raise LayoutError(f"unknown format {value[REVISION_BYTES : REVISION_BYTES + 1]!r}")
    try:
        parts = orjson.loads(zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS))
    except (zlib.error, orjson.JSONDecodeError) as error:
        raise LayoutError(f"unreadable: {error}") from error
    if not isinstance(parts, list) or len(parts) != known:
        raise LayoutError(f"expected {known} parts")
    return parts


def _pack_applied(applied: dict[str, int]) -> dict[str, list[int]]:
    """Each topic's id once: partition, offset, partition, offset, ..."""
    topics: dict[str, list[int]] = {}
    for source, offset in applied.items():
        topic_id, partition = _split_source(source)
        topics.setdefault(topic_id, []).extend((partition, offset))
    return topics


def _unpack_applied(topics: dict[str, list[int]]) -> dict[str, int]:
    return {
        _source_name(topic_id, partition): offset
        for topic_id, places in topics.items()
        for partition, offset in zip(places[::2], places[1::2], strict=True)
    }


def _pack_held(state: VisitorState) -> Any:
    """Which records a visitor holds: its own, and those of each visitor that was merged into it."""
    applied = _pack_applied(state.applied)
    return (
        [applied, {name: _pack_applied(theirs) for name, theirs in state.merged.items()}]
        if state.merged
        else applied
    )


def _unpack_held(packed: Any) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    if isinstance(packed, dict):
        return _unpack_applied(packed), {}
    return _unpack_applied(packed[0]), {
        name: _unpack_applied(theirs) for name, theirs in packed[1].items()
    }


def _pack_tiles(tiles: Tiles) -> list[Any]:
    return [tiles.newest, *tiles.counts] if tiles.counts else []


def _unpack_tiles(packed: list[Any]) -> Tiles:
    return Tiles(packed[0], packed[1:]) if packed else Tiles()


def _untyped(buckets: list[int], size: TileSize) -> Tiles:
    """Buckets of the first format: gap to the bucket before, count, gap, count, ..."""
    tiles = Tiles()
    for at, count in zip(accumulate(buckets[::2]), buckets[1::2], strict=True):
        tiling.add(tiles, size, at * size.ms, OTHER, count)
    return tiles
