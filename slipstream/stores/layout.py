"""Layout of Redis: the keys, the bytes of a value, and a cache of values that are decoded already.

A state is one string value: an 8-byte revision, a byte for the format, then deflated JSON arrays
without field names (times as gaps, types by their number in the list of counts). Redis keeps a
hash with a field over 64 bytes in a table, which costs 230 bytes more a visitor than a string
value (measured in docs/adr/0004-exactly-once-effect.md).
"""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import accumulate, repeat
from operator import sub
from typing import Any, Final, Generic, TypeVar

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import source_name, split_source
from slipstream.features import decay
from slipstream.features.decay import POPULAR_HALF_LIVES
from slipstream.features.item import ItemState
from slipstream.features.tiles import Tiles
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
# The formats of a state, and of a marker in the key of a visitor that was merged.
STATE_FORMAT: Final = b"\x04"
MARKER_FORMAT: Final = b"\x05"
# The same sources come again in every state.
_source_name = lru_cache(maxsize=4096)(source_name)
_split_source = lru_cache(maxsize=4096)(split_source)


class LayoutError(ValueError):
    """The bytes are a damaged state."""


class OtherFormatError(ValueError):
    """The bytes are not in this version's format: another version, or another program wrote them.

    It is no `LayoutError`: what is damaged can be passed over, what another version wrote must not
    be.
    """


def pack(revision: bytes, parts: list[Any]) -> bytes:
    """The value of a state, of parts that JSON can hold."""
    # A state is small: with a small window and little memory deflate takes a fifth of the time, for
    # the same length.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
    return revision + STATE_FORMAT + deflate.compress(orjson.dumps(parts)) + deflate.flush()


def unpack(value: bytes, length: int) -> list[Any]:
    """The parts of a state; `length` is the number that this kind of state has.

    Raises `LayoutError`, and `OtherFormatError`.
    """
    form = _format_of(value)
    if form != STATE_FORMAT:
        raise OtherFormatError(
            f"a value's format is {form.hex() or 'missing'}, not {STATE_FORMAT.hex()}"
        )
    try:
        parts = orjson.loads(zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS))
    except (zlib.error, orjson.JSONDecodeError) as error:
        raise LayoutError(f"unreadable: {error}") from error
    if not isinstance(parts, list) or len(parts) != length:
        raise LayoutError(f"expected {length} parts")
    return parts


def _format_of(value: bytes) -> bytes:
    return value[REVISION_BYTES : REVISION_BYTES + 1]


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


# Number of a state's parts.
_VISITOR_PARTS: Final = 13
_ITEM_PARTS: Final = 9
_TRENDING_PARTS: Final = 3
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
    shown_times, shown = zip(*state.impressions, strict=True) if state.impressions else ((), ())
    parts = [
        pack_applied(state.applied),
        state.counts,
        state.first_seen,
        state.last_seen - state.first_seen,
        items,
        [*map(numbers.__getitem__, types)],
        _gaps(times, state.first_seen),
        () if values.count(None) == len(values) else values,
        recent,
        [pack_tiles(tiles) for tiles in state.tiles],
        [_gaps(shown_times, state.first_seen), shown] if shown else (),
        {name: pack_applied(theirs) for name, theirs in state.merged.items()},
        int(state.is_user),
    ]
    return pack(revision, parts)


def decode_visitor(value: bytes) -> VisitorState:
    """The visitor's state in a value; raises what `unpack` raises."""
    (
        applied, counts, first_seen, span, items, types, gaps, values, gaps_to_last, tiles, shown,
        merged, is_user,
    ) = unpack(value, _VISITOR_PARTS)  # fmt: skip
    names = list(counts)
    times, values = _times(gaps, first_seen), values or repeat(None, len(items))
    rows = zip(items, map(names.__getitem__, types), times, values, strict=True)
    last_seen = first_seen + span
    impressions: list[Impression] = []
    if shown:
        impressions = [*map(_impression, zip(_times(shown[0], first_seen), shown[1], strict=True))]
    return VisitorState(
        [*map(_sequence_event, rows)],
        counts,
        first_seen,
        last_seen,
        unpack_applied(applied),
        {name: last_seen - gap for name, gap in zip(names, gaps_to_last, strict=True) if gap >= 0},
        [unpack_tiles(packed) for packed in tiles],
        {name: unpack_applied(theirs) for name, theirs in merged.items()},
        bool(is_user),
        impressions,
    )


def encode_marker(marker: MergeMarker, revision: bytes) -> bytes:
    to = marker.to.encode()
    own = encode_visitor(marker.own, b"") if marker.own is not None else b""
    state = encode_visitor(marker.state, b"") if marker.state is not None else b""
    head = revision + MARKER_FORMAT + len(to).to_bytes(2) + to + len(own).to_bytes(4)
    return head + own + state


def is_marker(value: bytes) -> bool:
    """Whether the content of a visitor's key is a marker."""
    return _format_of(value) == MARKER_FORMAT


def decode_visitor_or_marker(value: bytes) -> VisitorState | MergeMarker:
    """The content of a visitor's key; raises what `unpack` raises."""
    if not is_marker(value):
        return decode_visitor(value)
    start = REVISION_BYTES + 3
    end = start + int.from_bytes(value[start - 2 : start])
    to, own_at = value[start:end].decode(), end + 4
    state_at = own_at + int.from_bytes(value[end:own_at])
    own, state = value[own_at:state_at], value[state_at:]
    return MergeMarker(
        to, _inner_state(state) if state else None, _inner_state(own) if own else None
    )


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
    """The item's state in a value; raises what `unpack` raises."""
    applied, counts, mass, hours, days, first_seen, span, others, gaps = unpack(value, _ITEM_PARTS)
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
    """The trending state in a value; raises what `unpack` raises."""
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
