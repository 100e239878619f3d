"""Layout of Redis: the keys, the bytes of a value, and a cache of values that are decoded already.

A state is one string value: an 8-byte revision, a byte for the format, then deflated JSON arrays
without field names (times as gaps, types by their number in the list of counts). Redis keeps a
hash with a field over 64 bytes in a table, which costs 230 bytes more a visitor than a string
value (measured in docs/adr/0004-exactly-once-effect.md).
"""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate, repeat
from operator import sub
from typing import Any, Final, Generic, TypeVar

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import source_name, split_source
from slipstream.features import decay
from slipstream.features import tiles as tiling
from slipstream.features.decay import POPULAR_HALF_LIVES
from slipstream.features.item import DAYS, HOURS, ItemState
from slipstream.features.tiles import OTHER, Tiles, TileSize
from slipstream.features.visitor import Impression, SequenceEvent, VisitorState


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace.

    Keys that are changed together share a hash tag, which puts them into one slot of a cluster:
    the lists of demand and active visitors with their state, and the checkpoints with the lineages.
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

    def checkpoint(self, source: str) -> str:
        return f"{{{self.namespace}:checkpoint}}:{source}"

    def lineage(self, source: str) -> str:
        return f"{{{self.namespace}:checkpoint}}:lineage:{source}"

    def settled(self, tag: int) -> str:
        """A key with a tag for a slot of the counting node: see `cluster_clients`."""
        return f"{self.namespace}:settled:{{{tag}}}"

    def erased(self, kind: str) -> str:
        """Digests of erased visitors, by the time up to which their records are left out."""
        return f"{{{self.namespace}:erased}}:{kind}"

    @property
    def hold(self) -> str:
        """Exists while consumers are to apply nothing (see `slipstream.stores.rebuild`)."""
        return f"{self.namespace}:hold"

    @property
    def lake_hold(self) -> str:
        """Exists while nothing is to be appended to the lake (see `lake.LakeLease`)."""
        return f"{self.namespace}:lake-hold"

    @property
    def erasing(self) -> str:
        """The replica that erases from the lake now."""
        return f"{self.namespace}:erasing"

    def files_begun(self, node: str) -> str:
        """The server that began to rewrite its files, and when (see `redis_server`).

        `node` is its address in a cluster, else empty.
        """
        return f"{self.namespace}:files-begun{node and f':{node}'}"

    def files_written(self, node: str) -> str:
        """When the server began to write the files that it has now."""
        return f"{self.namespace}:files-written{node and f':{node}'}"

    @property
    def trending(self) -> str:
        return f"{{{self.namespace}:trending}}:state"

    @property
    def trending_scores(self) -> str:
        return f"{{{self.namespace}:trending}}:scores"

    @property
    def active_visitors(self) -> str:
        """The visitors who were active last, by the time of their newest event (ms)."""
        return f"{{{self.namespace}:trending}}:active"

    def popular_scores(self, window: str) -> str:
        return f"{{{self.namespace}:trending}}:popular:{window}"

    def demand_scores(self, window: str) -> str:
        """The scores of a window's popular items; with an empty window those of trending items."""
        return self.popular_scores(window) if window else self.trending_scores


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


# Number of a state's parts by format.
_VISITOR_PARTS: Final = {FIRST_FORMAT: 8, SECOND_FORMAT: 10, THIRD_FORMAT: 11}
_ITEM_PARTS: Final = {FIRST_FORMAT: 7, SECOND_FORMAT: 9}
_TRENDING_PARTS: Final = {FIRST_FORMAT: 3, SECOND_FORMAT: 3}
# The formats of a marker in the key of a visitor that was merged: of a proven one, and of a page's.
_MARKER: Final = b"\xf0"
_PAGE_MARKER: Final = b"\xf1"
# Seeded by the system. Asking the system for each revision takes ten times as long.
_random = random.Random()
_sequence_event = partial(tuple.__new__, SequenceEvent)
_impression = partial(tuple.__new__, Impression)


@dataclass(slots=True)
class TrendingState:
    """State of the trending list and of popular items, without their scores.

    `applied`: last offset by source (see `slipstream.contracts.positions`). `newest`: newest event
    time in ms. `half_life_ms`: the half-life that the trending scores were made with.
    """

    applied: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    half_life_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class MergeMarker:
    """Marker in the key of a visitor that turned out to be the visitor `to`.

    It holds the visitor's `state` until that is sure to be part of the other's. A page's word alone
    made a marker with `own`, the visitor's history by then: readers get that, and not the other's.
    """

    to: str
    state: VisitorState | None = None
    own: VisitorState | None = None


def new_revision() -> bytes:
    """A revision that no value had before.

    It is random, not a count, so that a value recreated after it expired differs from the old.
    """
    return _random.randbytes(REVISION_BYTES)


def revision_of(value: bytes | None) -> bytes:
    """The revision of a stored value; empty for none."""
    return value[:REVISION_BYTES] if value else b""


def encode_visitor(state: VisitorState, revision: bytes) -> bytes:
    numbers = {name: number for number, name in enumerate(state.counts)}
    items, types, times, values = (
        zip(*state.sequence, strict=True) if state.sequence else ((), (), (), ())
    )
    recent = [
        state.last_seen - state.recent[name] if name in state.recent else -1
        for name in state.counts
    ]
    parts = [
        _pack_held(state),
        state.counts,
        state.first_seen,
        state.last_seen - state.first_seen,
        items,
        [*map(numbers.__getitem__, types)],
        _gaps(times, state.first_seen),
        () if values.count(None) == len(values) else values,
        recent,
        [pack_tiles(tiles) for tiles in state.tiles],
    ]
    if not state.impressions:
        return pack(revision, parts)
    shown_times, shown = zip(*state.impressions, strict=True)
    return pack(revision, [*parts, [_gaps(shown_times, state.first_seen), shown]], THIRD_FORMAT)


def decode_visitor(value: bytes) -> VisitorState:
    """The visitor's state in a value; raises `LayoutError`.

    The first format has no tiles, and takes the newest time of each type from the sequence. Only
    the third one has impressions.
    """
    parts = unpack(value, _VISITOR_PARTS)
    applied, counts, first_seen, span, items, types, gaps, values = parts[:8]
    names = list(counts)
    times, values = _times(gaps, first_seen), values or repeat(None, len(items))
    rows = zip(items, map(names.__getitem__, types), times, values, strict=True)
    sequence = [*map(_sequence_event, rows)]
    last_seen = first_seen + span
    if len(parts) == 8:
        recent, tiles = {event.event_type: event.timestamp for event in sequence}, []
    else:
        recent = {
            name: last_seen - gap for name, gap in zip(names, parts[8], strict=True) if gap >= 0
        }
        tiles = [unpack_tiles(packed) for packed in parts[9]]
    impressions: list[Impression] = []
    if len(parts) == 11:
        shown_gaps, shown = parts[10]
        impressions = [*map(_impression, zip(_times(shown_gaps, first_seen), shown, strict=True))]
    held, merged, is_user = _unpack_held(applied)
    return VisitorState(
        sequence, counts, first_seen, last_seen, held, recent, tiles, merged, is_user, impressions
    )


def encode_marker(marker: MergeMarker, revision: bytes) -> bytes:
    to = marker.to.encode()
    head = len(to).to_bytes(2) + to
    state = encode_visitor(marker.state, b"") if marker.state is not None else b""
    if marker.own is None:
        return revision + _MARKER + head + state
    own = encode_visitor(marker.own, b"")
    return revision + _PAGE_MARKER + head + len(own).to_bytes(4) + own + state


def is_marker(value: bytes) -> bool:
    """Whether the content of a visitor's key is a marker."""
    return value[REVISION_BYTES : REVISION_BYTES + 1] in (_MARKER, _PAGE_MARKER)


def decode_visitor_or_marker(value: bytes) -> VisitorState | MergeMarker:
    """The content of a visitor's key; raises `LayoutError`."""
    if not is_marker(value):
        return decode_visitor(value)
    form = value[REVISION_BYTES : REVISION_BYTES + 1]
    start = REVISION_BYTES + 3
    end = start + int.from_bytes(value[start - 2 : start])
    to, rest, own = value[start:end].decode(), value[end:], None
    if form == _PAGE_MARKER:
        length = 4 + int.from_bytes(rest[:4])
        own, rest = _inner_state(rest[4:length]), rest[length:]
    return MergeMarker(to, _inner_state(rest) if rest else None, own)


def _inner_state(value: bytes) -> VisitorState:
    """The state in a marker, which has no revision of its own."""
    return decode_visitor(bytes(REVISION_BYTES) + value)


def encode_item(state: ItemState, revision: bytes) -> bytes:
    masses = [*state.neighbours.values()]
    return pack(
        revision,
        [
            pack_applied(state.applied),
            state.counts,
            state.mass,
            pack_tiles(state.hours),
            pack_tiles(state.days),
            state.first_seen,
            state.last_seen - state.first_seen,
            [*state.neighbours],
            [*map(sub, masses, (0, *masses))],
        ],
    )


def decode_item(value: bytes) -> ItemState:
    """The item's state in a value; raises `LayoutError`.

    The first format has no neighbours, and its windows do not tell types apart.
    """
    parts = unpack(value, _ITEM_PARTS)
    applied, counts, mass, hours, days, first_seen, span = parts[:7]
    if len(parts) == 7:
        return ItemState(
            counts,
            mass,
            untyped_tiles(hours, HOURS),
            untyped_tiles(days, DAYS),
            first_seen,
            first_seen + span,
            unpack_applied(applied),
        )
    others, gaps = parts[7:]
    return ItemState(
        counts,
        mass,
        unpack_tiles(hours),
        unpack_tiles(days),
        first_seen,
        first_seen + span,
        unpack_applied(applied),
        dict(zip(others, accumulate(gaps), strict=True)),
    )


def encode_trending(state: TrendingState, revision: bytes) -> bytes:
    return pack(revision, [pack_applied(state.applied), state.newest, state.half_life_ms])


def decode_trending(value: bytes) -> TrendingState:
    """The trending state in a value; raises `LayoutError`."""
    applied, newest, half_life_ms = unpack(value, _TRENDING_PARTS)
    return TrendingState(unpack_applied(applied), newest, half_life_ms)


def trending_items(
    scores: Sequence[tuple[bytes, float]], state: bytes | None, window: str = ""
) -> list[tuple[str, float]]:
    """Trending items, or popular items of a window, with their weight at the newest event.

    `scores` are items with their decayed masses, `state` is the value of the trending state.
    """
    if not scores or state is None:
        return []
    trending = decode_trending(state)
    half_life_ms = POPULAR_HALF_LIVES[window] if window else trending.half_life_ms
    return [
        (item_id.decode(), decay.value(mass, trending.newest, half_life_ms))
        for item_id, mass in scores
    ]


def decode_catalog(value: bytes | None) -> CatalogRecord | None:
    """The record in the `record` field of a catalogue entry; None for no entry."""
    return None if value is None else CatalogRecord.model_validate_json(value)


def _gaps(times: Sequence[int], first: int) -> list[int]:
    """The time from each to the next, of the first from `first`, in ms."""
    return [*map(sub, times, (first, *times))]


def _times(gaps: Iterable[int], first: int) -> Iterator[int]:
    """The times that `_gaps` packed."""
    times = accumulate(gaps, initial=first)
    next(times)
    return times


def _pack_held(state: VisitorState) -> Any:
    """The offsets of a visitor's own records, and of each visitor that was merged into it; then 1
    for one that has been a user.
    """
    applied = pack_applied(state.applied)
    merged = {name: pack_applied(theirs) for name, theirs in state.merged.items()}
    if state.is_user:
        return [applied, merged, 1]
    return [applied, merged] if merged else applied


def _unpack_held(packed: Any) -> tuple[dict[str, int], dict[str, dict[str, int]], bool]:
    if isinstance(packed, dict):
        return unpack_applied(packed), {}, False
    merged = {name: unpack_applied(theirs) for name, theirs in packed[1].items()}
    # A visitor was linked to it where versions before this mark left others in it.
    return unpack_applied(packed[0]), merged, len(packed) > 2 or bool(merged)


S = TypeVar("S")


class StateCache(Generic[S]):
    """Decodes values, and keeps the `size` newest states by key and revision.

    Every write gives a value a revision that none had before, so a state with the value's revision
    is the value's. The states are shared: callers must not change them.
    """

    def __init__(self, decode: Callable[[bytes], S], size: int) -> None:
        self._decode, self._size = decode, size
        self._states: dict[str, tuple[bytes, S]] = {}

    def state(self, key: str, value: bytes) -> S:
        """The state in a value that was read under this key. Raises what `decode` raises."""
        revision = value[:REVISION_BYTES]
        kept = self._states.get(key)
        if kept is not None and kept[0] == revision:
            return kept[1]
        state = self._decode(value)
        self.remember(key, revision, state)
        return state

    def remember(self, key: str, revision: bytes, state: S) -> None:
        """Keep the state of a value that was just written with this revision."""
        self._states.pop(key, None)
        if len(self._states) >= self._size:
            del self._states[next(iter(self._states))]  # the oldest
        self._states[key] = revision, state
