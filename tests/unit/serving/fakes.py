"""A small recommender and in-memory stand-ins, handed to the pipeline in place of the real ones."""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.request.line import Line, Shop
from services.serving.settings import ServingSection
from slipstream.contracts.events import CatalogRecord, Slate
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.vocabulary import RANKED, SHOWN
from slipstream.features.visitor import SequenceEvent, VisitorState
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import SlateRequest
from slipstream.stores.online import StoreUnavailableError, VisitorValue

# Options of a setting that are look-ups of its shop.
_OF_SHOP = {"placement", "experiment", "variant_model"}
ITEMS = [f"item-{number:02}" for number in range(40)]
# Two items lie on a shelf, side by side.
SHELVES = {item_id: f"shelf {place // 2}" for place, item_id in enumerate(ITEMS)}


def interactions() -> pa.Table:
    """Two kinds of visitors who keep to their half of the items, walking through it in order."""
    rows = [
        (
            f"visitor-{visitor}",
            ITEMS[(visitor % 2) * 20 + (visitor // 2 + step) % 20],
            "view",
            visitor * 1_000 + step,
        )
        for visitor in range(60)
        for step in range(8)
    ]
    users, items, types, times = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": items, "event_type": types, "timestamp": times})


def small_bundle(version: str = "1", repeats: bool = False) -> Bundle:
    return fit(interactions(), options=FitOptions(version=version, repeats=repeats))


@cache
def described_bundle() -> Bundle:
    """A bundle whose items have the attribute `shelf`, see `SHELVES`."""
    items = pa.table({"item_id": list(SHELVES), "shelf": list(SHELVES.values())})
    return fit(interactions(), items, FitOptions(version="1", repeats=False))


def model(bundle: Bundle, version: str = "1") -> Model:
    return Model(version, bundle, Path(), 0)


def history(*item_ids: str) -> list[SequenceEvent]:
    return [SequenceEvent(item_id, "view", at + 1) for at, item_id in enumerate(item_ids)]


def visitor(*item_ids: str) -> VisitorState:
    return VisitorState(history(*item_ids), {"view": len(item_ids)}, 1, len(item_ids))


def item_record(item_id: str, timestamp: int = 1, **changes: object) -> StreamCatalogRecord:
    """A record of an item, with its time as its offset."""
    record = CatalogRecord.model_validate(
        {"entity": "item", "entity_id": item_id, "timestamp": timestamp, **changes}
    )
    return StreamCatalogRecord("c:0", timestamp, record)


def ranking(user_id: str, item_ids: Sequence[str], *, shown: bool = False) -> SlateRequest:
    """A request for an order of items, without a placement's rules."""
    return SlateRequest(
        len(item_ids),
        user_id,
        given=item_ids,
        repeats=True,
        with_rules=False,
        exploration=0.0,
        purpose=SHOWN if shown else RANKED,
    )


class FakeOnline:
    """The online store as dictionaries; `away` makes it fail as a store that refuses
    connections. `users_of` has the user that each merged visitor is.
    """

    def __init__(
        self,
        visitors: dict[str, VisitorState] | None = None,
        trending: list[tuple[str, float]] | None = None,
        popular: dict[str, list[tuple[str, float]]] | None = None,
    ) -> None:
        self.visitors, self.top, self.popular = visitors or {}, trending or [], popular or {}
        self.users_of: dict[str, str] = {}
        self.away = False

    def node(self, user_id: str | None = None) -> str:
        return ""

    async def visitor(self, user_id: str) -> VisitorState | None:
        self._answer()
        return self.visitors.get(user_id)

    async def visitor_value(self, user_id: str) -> VisitorValue | None:
        state = await self.visitor(user_id)
        if state is None:
            return None
        revision = b"" if user_id in self.users_of else blake2b(repr(state).encode()).digest()[:8]
        return VisitorValue(revision, state)

    async def active_visitors(self, n: int) -> list[tuple[str, int]]:
        self._answer()
        latest = [(name, state.last_seen) for name, state in self.visitors.items()]
        return sorted(latest, key=lambda each: -each[1])[:n]

    async def users(self, visitor_ids: Sequence[str]) -> dict[str, tuple[str, VisitorState]]:
        self._answer()
        known = (name for name in visitor_ids if name in self.visitors)
        return {name: (self.users_of.get(name, name), self.visitors[name]) for name in known}

    async def trending(self, n: int, window: str = "") -> list[tuple[str, float]]:
        self._answer()
        return (self.popular.get(window, []) if window else self.top)[:n]

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailableError("away")


class Setting:
    """A line on fakes: change `model`, `online` or `catalog`, and read what was recorded from
    `slates`.

    `options` are settings of serving, or look-ups of the shop.
    """

    def __init__(self, online: FakeOnline, model: Model | None = None, **options: Any) -> None:
        self.online, self.model = online, model
        self.catalog = Catalog()
        self.registry = CollectorRegistry()
        self.slates: list[Slate] = []
        # Names of placements that there are; None while they are not known.
        self.placements: set[str] | None = None
        shop = {name: options.pop(name) for name in _OF_SHOP & options.keys()}
        self.line = Line(
            online,
            Shop(self.catalog, lambda: self.model, **shop),
            ServingMetrics(self.registry),
            self.slates.append,
            ServingSection(**{"kept_lists": 0, **options}),
        )

    def placements_without(self, name: str) -> set[str] | None:
        return None if self.placements is None or name in self.placements else self.placements
