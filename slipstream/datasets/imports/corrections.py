"""Corrections: which events of an earlier file a corrected one leaves out, or says otherwise."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from slipstream.datasets.imports.conversion import Event, Repetitions, items_of, message_id
from slipstream.datasets.imports.sending import in_order
from slipstream.datasets.imports.sources import ImportFileError
from slipstream.datasets.imports.surveys import Export

# Most ids of the earlier files' events that are held, of about 200 bytes each.
MOST_EVENTS: Final = 2_000_000


@dataclass(slots=True)
class Correction:
    """The difference between an earlier file and the one that corrects it.

    Attributes:
        withdrawn: Message ids of the earlier events that are not in the corrected file as they
            were; those that it says otherwise come again under the same id.
        kept: Message ids of the earlier events that are in the corrected file unchanged.
        visitors: Visitors of the withdrawn events, as the file names them.
        items: Items of the withdrawn events.
        first, last: Least and greatest time of the withdrawn events (ms).
    """

    withdrawn: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    visitors: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    first: int = 0
    last: int = 0


def correction(earlier: Iterable[Export], corrected: Sequence[Export]) -> Correction:
    """Compare files, event by event. Files of items are passed over.

    Raises:
        ImportFileError: A file can't be read on, or the earlier ones have over 2,000,000 events.
    """
    said = {identifier: _digest(event) for identifier, event in _identified(corrected)}
    found = Correction()
    for number, (identifier, event) in enumerate(_identified(earlier), start=1):
        if number > MOST_EVENTS:
            raise ImportFileError(
                f"the file to be replaced has over {MOST_EVENTS:,} events: split it by time,"
                " and replace part by part"
            )
        if said.get(identifier) == _digest(event):
            found.kept.add(identifier)
            continue
        at = event.timestamp
        found.first = min(found.first, at) if found.withdrawn else at
        found.last = max(found.last, at) if found.withdrawn else at
        found.withdrawn.add(identifier)
        found.visitors.add(event.visitor)
        found.items.update(items_of(event.call.get("properties", {})))
    return found


def _identified(exports: Iterable[Export]) -> Iterator[tuple[str, Event]]:
    """The events of files with the message ids under which they are sent."""
    for export in exports:
        if export.understanding.kind != "events":
            continue
        repetitions = Repetitions()
        rows: Iterator[Any] = export.entries(lambda _rejection: None)
        for event in in_order(rows):
            number = repetitions.number(event.identity, event.timestamp, event.unique)
            yield message_id(event.identity, number), event


def _digest(event: Event) -> bytes:
    said = {**event.call, "event": event.event_type}
    text = orjson.dumps(said, default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()
