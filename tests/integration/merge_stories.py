"""Views and links of a few visitors, and what the online store must hold after them."""

from collections.abc import Sequence

from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.features import item, visitor
from slipstream.features.visitor import VisitorState
from slipstream.stores.online import OnlineStore

NOW = 1_790_000_000_000
PEOPLE = ("a", "b", "c", "u", "v")
Step = StreamInteraction | StreamCatalogRecord


def view(
    user: str, number: int, source: str = "", item_id: str = "", kind: str = "view"
) -> StreamInteraction:
    """A view of an item, or an event of another type, `number` minutes after `NOW`."""
    at = NOW + number * 60_000
    event = Interaction(
        event_id=f"e{number}",
        event_type=kind,
        user_id=user,
        item_id=item_id or f"i{number % 7}",
        timestamp=at,
        received_at=at,
    )
    return StreamInteraction(source or f"t:{PEOPLE.index(user) % 3}", number, event)


def link(visitor_id: str, user_id: str, number: int, source: str = "") -> StreamCatalogRecord:
    """A link from a visitor to a user."""
    record = CatalogRecord(
        entity="identity",
        entity_id=visitor_id,
        attributes={MERGED_INTO: user_id},
        timestamp=NOW + number,
    )
    return StreamCatalogRecord(source or f"c:{PEOPLE.index(visitor_id) % 2}", number, record)


def apply(store: OnlineStore, steps: Sequence[Step]) -> None:
    """Apply a batch as the materializer does: its interactions, then its links."""
    store.apply([step for step in steps if isinstance(step, StreamInteraction)])
    store.link([step for step in steps if isinstance(step, StreamCatalogRecord)])


def contents(state: VisitorState | None) -> object:
    """The parts of a state that come from events, without offsets."""
    return state and (
        state.sequence,
        state.counts,
        state.first_seen,
        state.last_seen,
        state.recent,
        state.tiles,
    )


def assert_each_once(store: OnlineStore, steps: Sequence[Step]) -> None:
    """Each visitor's state has every event of its user once, and each item's state every event.

    The order of reading may decide which links count only where links contradict each other or
    form a circle.
    """
    user_of = {name: store._merges.end(name)[0] for name in PEOPLE}
    targets: dict[str, set[str]] = {}
    for step in steps:
        if isinstance(step, StreamCatalogRecord):
            targets.setdefault(step.record.entity_id, set()).add(
                step.record.attributes[MERGED_INTO]
            )
    for name, users in targets.items():
        if len(users) == 1:
            assert user_of[name] == user_of[users.pop()]
    for name in PEOPLE:
        assert name in targets or user_of[name] == name
    events = [step.interaction for step in steps if isinstance(step, StreamInteraction)]
    for name in PEOPLE:
        theirs = [event for event in events if user_of[event.user_id] == user_of[name]]
        held = store.visitor(name)
        if not theirs:
            assert held is None or held.counts == {}
        else:
            assert contents(held) == contents(visitor.fold_all(None, theirs)), name
    items = sorted({event.item_id for event in events if event.item_id})
    for item_id, state in zip(items, store.items(items), strict=True):
        assert state is not None
        assert (
            state.counts
            == item.fold_all(None, [event for event in events if event.item_id == item_id]).counts
        )


STORY: list[Step] = [
    view("a", 0), view("u", 1), view("a", 2), link("a", "u", 3), view("a", 4), view("u", 5),
    link("b", "a", 6), view("b", 7), link("u", "v", 8), view("a", 9), view("v", 10),
    link("a", "c", 11), link("v", "a", 12), view("b", 13),
]  # fmt: skip
