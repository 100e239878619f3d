"""What the catalogue says of people: who is whom, and who is to be forgotten."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from services.features.stream.archive import Erasure
from slipstream.broker.batch import Message
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineStore


@dataclass(slots=True)
class Settled:
    """The states that have changed, how many links came to what, and what is to be erased from the
    lake.
    """

    changed: dict[str, VisitorState] = field(default_factory=dict)
    links: Counter[str] = field(default_factory=Counter)
    erasures: list[Erasure] = field(default_factory=list)


def is_of_people(record: CatalogRecord) -> bool:
    """Whether the record is a link or an erasure, which is more than an entry to be kept."""
    return record.entity == "identity" or (record.entity == "user" and record.deleted)


def settle(store: OnlineStore, messages: Iterable[Message[CatalogRecord]]) -> Settled:
    """Merge and erase what these records say, in the order in which it was said. Raises
    `StoreUnavailableError`.
    """
    settled = Settled()
    ordered = sorted(messages, key=lambda message: message.record.timestamp)
    for is_link, group in groupby(ordered, lambda message: message.record.entity == "identity"):
        if is_link:
            linked = store.link([_placed(message) for message in group])
            settled.changed |= linked.changed
            settled.links.update(linked.outcomes)
            settled.erasures += [Erasure([visitor_id], at) for visitor_id, at in linked.erased]
            continue
        for message in group:
            members = store.erase(_placed(message))
            settled.erasures.append(
                Erasure(members, message.record.timestamp, message.source, message.offset)
            )
            for member in members:
                settled.changed.pop(member, None)
    return settled


def _placed(message: Message[CatalogRecord]) -> StreamCatalogRecord:
    return StreamCatalogRecord(*message.position, message.record)
