"""Records of the catalogue about people: links of visitors to users, and erasures of users."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from slipstream.broker.batch import Message
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Cut, Position, StreamCatalogRecord
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineStore


@dataclass(slots=True)
class PeopleChanges:
    """Changes that links and erasures made online.

    `visitors` holds the changed states by user id; `links` counts links by outcome, `erasures` the
    users that were erased. `without_effect` has the positions of pages' links that linked nobody.
    """

    visitors: dict[str, VisitorState] = field(default_factory=dict)
    links: Counter[str] = field(default_factory=Counter)
    erasures: int = 0
    without_effect: set[Position] = field(default_factory=set)


def is_of_people(record: CatalogRecord) -> bool:
    """Whether the record is a link or an erasure, not an entry to be stored."""
    return record.entity == "identity" or (record.entity == "user" and record.deleted)


def placed(messages: Sequence[Message[Any]], ends: Callable[[], Cut]) -> list[Message[Any]]:
    """The messages, where every request to erase has a cut.

    Ingestion gives it. A request that was pushed, or sent by an older version, gets the ends of the
    topics at this moment.
    """
    ends = cache(ends)  # They are asked for once.
    return [
        replace(message, record=message.record.model_copy(update={"cut": ends()}))
        if isinstance(message.record, CatalogRecord)
        and is_of_people(message.record)
        and message.record.deleted
        and not message.record.cut
        else message
        for message in messages
    ]


def merge_and_erase(
    store: OnlineStore, messages: Iterable[Message[CatalogRecord]]
) -> PeopleChanges:
    """Erase users, then merge linked visitors, in the online store.

    The order between the two does not matter: each erasure and link has its place in the log.
    Raises `StoreUnavailableError`.
    """
    links, changes = list[StreamCatalogRecord](), PeopleChanges()
    for message in messages:
        record = StreamCatalogRecord(*message.position, message.record)
        if record.record.entity == "identity":
            links.append(record)
        else:
            store.erase(record)
            changes.erasures += 1
    linked = store.link(links)
    changes.visitors, changes.links = linked.changed, linked.outcomes
    changes.without_effect = linked.without_effect
    return changes
