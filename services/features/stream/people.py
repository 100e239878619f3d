"""Records of the catalogue about people: links of visitors to users, and erasures of users."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from services.features.stream.archive import Erasure
from slipstream.broker.batch import Message
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Position, StreamCatalogRecord
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineStore


@dataclass(slots=True)
class PeopleChanges:
    """Changes that links and erasures made online, and the erasures that the lake needs.

    `visitors` holds the changed states by user id; `links` counts links by outcome.
    `without_effect` has the positions of pages' links that linked nobody.
    """

    visitors: dict[str, VisitorState] = field(default_factory=dict)
    links: Counter[str] = field(default_factory=Counter)
    erasures: list[Erasure] = field(default_factory=list)
    without_effect: set[Position] = field(default_factory=set)


def is_of_people(record: CatalogRecord) -> bool:
    """Whether the record is a link or an erasure, not an entry to be stored."""
    return record.entity == "identity" or (record.entity == "user" and record.deleted)


def merge_and_erase(
    store: OnlineStore, messages: Iterable[Message[CatalogRecord]]
) -> PeopleChanges:
    """Merge linked visitors and erase users in the online store, in the order of record times.

    Raises `StoreUnavailableError`.
    """
    changes = PeopleChanges()
    ordered = sorted(messages, key=lambda message: message.record.timestamp)
    for is_link, group in groupby(ordered, lambda message: message.record.entity == "identity"):
        if is_link:
            linked = store.link([_stream_record(message) for message in group])
            changes.visitors |= linked.changed
            changes.links.update(linked.outcomes)
            changes.without_effect |= linked.without_effect
            changes.erasures += [Erasure([visitor_id], at) for visitor_id, at in linked.erased]
            continue
        for message in group:
            members = store.erase(_stream_record(message))
            changes.erasures.append(
                Erasure(members, message.record.timestamp, message.source, message.offset)
            )
            for member in members:
                changes.visitors.pop(member, None)
    return changes


def _stream_record(message: Message[CatalogRecord]) -> StreamCatalogRecord:
    return StreamCatalogRecord(*message.position, message.record)
