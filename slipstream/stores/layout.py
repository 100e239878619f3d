"""How states are laid out in Redis: the keys, and the bytes of a state.

A state is one string value: an 8-byte revision, a byte for the format, then deflated JSON arrays without field names (times as
gaps, types as places in the list of counts). One value and not a hash of fields, since Redis keeps a hash with a field over 64
bytes in a table: that costs 230 bytes more a visitor (docs/adr/0004-exactly-once-effect.md has the measurement).
"""

import secrets
import zlib
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

import orjson

from slipstream.contracts.events import CatalogRecord
from slipstream.features.item import ItemState
from slipstream.features.visitor import SequenceEvent, VisitorState

REVISION_BYTES: Final = 8
_FORMAT: Final = b"\x01"


class LayoutError(ValueError):
    """The bytes are not a state in a format known here: a newer version wrote them, or somebody else did."""


@dataclass(slots=True)
class TrendingState:
    """What stands beside the trending scores: `applied` as in `slipstream.features.applied`, `newest` event time in ms, and the
    half-life that the scores were made with."""

    applied: dict[str, int] = field(default_factory=dict)
    newest: int = 0
    half_life_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace. Only the two of trending are touched together, so only they share a hash tag."""

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
    def trending(self) -> str:
        return f"{{{self.namespace}:trending}}:state"

    @property
    def trending_scores(self) -> str:
        return f"{{{self.namespace}:trending}}:scores"


def new_revision() -> bytes:
    """A revision that no value had before. Random, not a count: a value that expired and began anew is not taken for the old."""
    return secrets.token_bytes(REVISION_BYTES)


def revision_of(value: bytes | None) -> bytes:
    """The revision of a stored value; empty for none."""
    return value[:REVISION_BYTES] if value else b""


def encode_visitor(state: VisitorState, revision: bytes) -> bytes:
    types = {name: place for place, name in enumerate(state.counts)}
    times = [event.timestamp for event in state.sequence]
    values = [event.value for event in state.sequence]
    return _pack(
        revision,
        [
            _pack_applied(state.applied),
            state.counts,
            state.first_seen,
            state.last_seen - state.first_seen,
            [event.item_id for event in state.sequence],
            [types[event.event_type] for event in state.sequence],
            [time - before for before, time in zip([state.first_seen, *times], times, strict=False)],
            values if any(value is not None for value in values) else [],
        ],
    )


def decode_visitor(value: bytes) -> VisitorState:
    """Raises `LayoutError`."""
    applied, counts, first_seen, span, items, types, gaps, values = _unpack(value, 8)
    names = list(counts)
    times = list(accumulate(gaps, initial=first_seen))[1:]
    sequence = [
        SequenceEvent(item, names[kind], time, number)
        for item, kind, time, number in zip(items, types, times, values or [None] * len(items), strict=True)
    ]
    return VisitorState(sequence, counts, first_seen, first_seen + span, _unpack_applied(applied))


def encode_item(state: ItemState, revision: bytes) -> bytes:
    return _pack(
        revision,
        [
            _pack_applied(state.applied),
            state.counts,
            state.mass,
            _pack_buckets(state.hours),
            _pack_buckets(state.days),
            state.first_seen,
            state.last_seen - state.first_seen,
        ],
    )


def decode_item(value: bytes) -> ItemState:
    """Raises `LayoutError`."""
    applied, counts, mass, hours, days, first_seen, span = _unpack(value, 7)
    return ItemState(
        counts, mass, _unpack_buckets(hours), _unpack_buckets(days), first_seen, first_seen + span, _unpack_applied(applied)
    )


def encode_trending(state: TrendingState, revision: bytes) -> bytes:
    return _pack(revision, [_pack_applied(state.applied), state.newest, state.half_life_ms])


def decode_trending(value: bytes) -> TrendingState:
    """Raises `LayoutError`."""
    applied, newest, half_life_ms = _unpack(value, 3)
    return TrendingState(_unpack_applied(applied), newest, half_life_ms)


def decode_catalog(value: bytes | None) -> CatalogRecord | None:
    """The record of a catalogue entry's `record` field; None for no entry."""
    return None if value is None else CatalogRecord.model_validate_json(value)


def _pack(revision: bytes, parts: list[Any]) -> bytes:
    # A state is small: with a small window and little memory deflate takes a fifth of the time, for the same length.
    deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
    return revision + _FORMAT + deflate.compress(orjson.dumps(parts)) + deflate.flush()


def _unpack(value: bytes, length: int) -> list[Any]:
    if value[REVISION_BYTES : REVISION_BYTES + 1] != _FORMAT:
        raise LayoutError(f"unknown format {value[REVISION_BYTES : REVISION_BYTES + 1]!r}")
    try:
        parts = orjson.loads(zlib.decompress(value[REVISION_BYTES + 1 :], -zlib.MAX_WBITS))
    except (zlib.error, orjson.JSONDecodeError) as error:
        raise LayoutError(f"unreadable: {error}") from error
    if not isinstance(parts, list) or len(parts) != length:
        raise LayoutError(f"expected {length} parts")
    return parts


def _pack_applied(applied: dict[str, int]) -> dict[str, list[int]]:
    """Each topic's id once: partition, offset, partition, offset, ..."""
    topics: dict[str, list[int]] = {}
    for source, offset in applied.items():
        topic_id, _, partition = source.rpartition(":")
        topics.setdefault(topic_id, []).extend((int(partition), offset))
    return topics


def _unpack_applied(topics: dict[str, list[int]]) -> dict[str, int]:
    return {
        f"{topic_id}:{partition}": offset
        for topic_id, places in topics.items()
        for partition, offset in zip(places[::2], places[1::2], strict=True)
    }


def _pack_buckets(buckets: dict[int, int]) -> list[int]:
    """Gap to the bucket before, count, gap, count, ..."""
    flat, before = [], 0
    for at, count in buckets.items():
        flat += [at - before, count]
        before = at
    return flat


def _unpack_buckets(flat: list[int]) -> dict[int, int]:
    return dict(zip(accumulate(flat[::2]), flat[1::2], strict=True))
