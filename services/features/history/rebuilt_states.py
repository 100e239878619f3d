"""States rebuilt from history, by the functions that fold the stream. Both engines use these."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from services.features.history.lake_snapshot import CatalogHistory
from slipstream.contracts.positions import StreamInteraction
from slipstream.features import history
from slipstream.features.covisits import Covisit
from slipstream.features.history import StreamCovisit
from slipstream.features.visitor import VisitorState
from slipstream.stores.rebuild import RebuiltItem, RebuiltVisitor


def rebuilt_visitor(
    catalog: CatalogHistory, user_id: str, records: Sequence[StreamInteraction]
) -> tuple[RebuiltVisitor, list[StreamCovisit]]:
    """The state of a user after all its records, and the pairs of items that they make."""
    arrived = history.in_order_of_arrival(records)
    state = history.visitor_state(user_id, arrived)
    members, erased = catalog.members(user_id), catalog.erased(user_id)
    state = replace(
        state,
        applied={**state.applied, **dict(erased)},
        is_user=state.is_user or bool(members or erased),
    )
    last = max(record.interaction.received_at for record in arrived)
    pairs = history.covisits(user_id, arrived, catalog.links_to(user_id))
    return RebuiltVisitor(user_id, state, members, last, catalog.unproven(user_id)), pairs


def linked_visitor(catalog: CatalogHistory, user_id: str) -> RebuiltVisitor:
    """The state of a user without a record, to whom other visitors are linked."""
    last = max(link.timestamp for link in catalog.links_to(user_id))
    state = VisitorState(is_user=True)
    return RebuiltVisitor(user_id, state, catalog.members(user_id), last, catalog.unproven(user_id))


def rebuilt_item(
    item_id: str, records: Sequence[StreamInteraction], pairs: Sequence[StreamCovisit]
) -> RebuiltItem:
    """The state of an item after all its records and the pairs that it is in."""
    last = max(record.interaction.received_at for record in records)
    return RebuiltItem(item_id, history.item_state(records, pairs), last)


def pairs_by_item(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[StreamCovisit]]:
    """Pairs by the item that they belong to, from rows (source, offset, item, neighbour, time)."""
    pairs: dict[str, list[StreamCovisit]] = {}
    for source, offset, *pair in rows:
        pairs.setdefault(pair[0], []).append(StreamCovisit(source, offset, Covisit(*pair)))
    return pairs
