"""Shops whose answers are recorded: every kind of model, store, placement and experiment."""

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa

from slipstream.contracts.experiments import Experiment
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.features.visitor import SEQUENCE_LENGTH, Impression, SequenceEvent, VisitorState
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.fit import FitOptions, fit
from slipstream.slates.catalogue.model import Model
from tests.unit.recommender import small_models
from tests.unit.serving.fakes import (
    ITEMS,
    SHELVES,
    FakeOnline,
    Setting,
    interactions,
    item_record,
    model,
)
from tests.unit.serving.request.test_line_failing_parts import broken

NOW_MS = 1_790_000_000_000
BRANDS = ("nike", "puma", "asics")
# Rules, shares and limits of every kind, by placement.
POLICIES: dict[str, dict[str, Any]] = {
    "home": {},
    "ruled": {
        "rules": [
            {"name": "cheap", "action": "include", "filter": "price <= 350"},
            {"name": "not six", "action": "exclude", "filter": "item_id == 'item-06'"},
            {"name": "two of a brand", "action": "cap", "attribute": "brand", "most": 4},
            {"name": "first", "action": "pin", "filter": "sponsored", "position": 1},
            {"name": "up", "action": "boost", "filter": "brand == 'asics'", "factor": 3},
            {"name": "down", "action": "bury", "filter": "price > 300", "factor": 0.1},
            {"name": "at home", "action": "exclude", "filter": "price < 20",
             "when": "country == 'DE'"},
            {"name": "over", "action": "exclude", "ends_at": NOW_MS - 1},
            {"name": "other", "action": "pin", "filter": "colour == 'blue'", "position": 3},
        ],
        "seen": "show",
    },
    "varied": {"diversity": 0.5, "group_by": "shelf", "calibration": 0.3, "calibrated_by": "brand"},
    "exploring": {"exploration": 0.3, "seen": "hide", "bought": "show"},
    "paused": {"fatigue": 2, "bought": "hide"},
    "tested": {"seen": "hide"},
    "shadowed": {},
    "half": {"rules": [{"name": "half", "action": "include", "filter": "number >= 20"}]},
}  # fmt: skip
OTHER = {"name": "other", "placement": "half"}
DESIGNS: dict[str, dict[str, Any]] = {
    "tested": {
        "variants": [
            {"name": "as-now"},
            OTHER | {"model": "challenger"},
            {"name": "gone", "model": "absent"},
            {"name": "bold", "exploration": 0.5, "diversity": 0.2},
        ],
        "traffic": 0.9,
    },
    "shadowed": {
        "kind": "shadow",
        "variants": [{"name": "as-now"}, OTHER | {"model": "challenger"}],
    },
}


@dataclass
class Scene:
    """A shop, the ids that requests name, and the number of requests."""

    name: str
    setting: Setting
    visitors: list[str]
    items: list[str]
    count: int = 160

    def click(self, number: int, now_ms: int) -> None:
        """Let a visitor view an item."""
        name = f"visitor {number % 14}"
        state = self.setting.online.visitors[name]
        event = SequenceEvent(self.items[number % len(self.items)], "view", now_ms)
        self.setting.online.visitors[name] = replace(
            state,
            sequence=[*state.sequence, event][-SEQUENCE_LENGTH:],
            counts={**state.counts, "view": state.counts.get("view", 0) + 1},
            last_seen=now_ms,
        )


@cache
def _shop_bundle() -> Bundle:
    """A fitted bundle whose items have a shelf, and go into baskets."""
    rows = interactions().to_pylist()
    baskets = [
        {"user_id": f"buyer-{number}", "item_id": ITEMS[(number * 3 + step) % 40],
         "event_type": "purchase", "timestamp": 100_000_000 * number}
        for number in range(40) for step in range(3)
    ]  # fmt: skip
    items = pa.table({"item_id": list(SHELVES), "shelf": list(SHELVES.values())})
    options = FitOptions(version="1", repeats=False)
    bundle = fit(pa.Table.from_pylist(rows + baskets), items, options)
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"created_at": NOW_MS}))


@cache
def _small_bundle() -> Bundle:
    return small_models.small_bundle()


def _visitors(item_ids: list[str]) -> dict[str, VisitorState]:
    chance = random.Random(11)
    found = {}
    for number in range(14):
        length = (0, 1, 2, 4, 8, 20, 100)[number % 7]
        events = [
            SequenceEvent(
                chance.choice(item_ids),
                chance.choice(["view", "view", "click", "cart", "purchase"]),
                NOW_MS - (length - at) * 3_600_000,
                4.0 if chance.random() < 0.1 else None,
            )
            for at in range(length)
        ]
        counts: dict[str, int] = {}
        for event in events:
            counts[event.event_type] = counts.get(event.event_type, 0) + 1
        shown = [
            Impression(NOW_MS - 1_000 * (40 - at), chance.choice(item_ids[:20])) for at in range(40)
        ]
        found[f"visitor {number}"] = VisitorState(
            events,
            counts,
            events[0].timestamp if events else 0,
            events[-1].timestamp if events else 0,
            impressions=shown if number % 2 else [],
        )
    return found


def _placement(name: str) -> Placement | None:
    if name not in POLICIES:
        return None
    policy = PlacementPolicy.model_validate(POLICIES[name])
    return Placement(name=name, revision=len(name), policy=policy, changed_at=1)


def _experiment(placement: str, _now_ms: int) -> Experiment | None:
    if placement not in DESIGNS:
        return None
    design = {"placements": [placement], **DESIGNS[placement]}
    return Experiment.model_validate(
        {"name": f"e-{placement}", "revision": 1, "design": design, "changed_at": 1}
    )


def _setting(
    bundle: Bundle | None, challenger: Bundle, item_ids: list[str], **options: Any
) -> Setting:
    online = FakeOnline(
        _visitors(item_ids),
        [(item_id, 50.0 - place) for place, item_id in enumerate(item_ids[3:43])],
        {
            "day": [(item_id, 9.0 - place) for place, item_id in enumerate(item_ids[:5])],
            "week": [(item_id, 90.0 - place) for place, item_id in enumerate(item_ids[10:60])],
        },
    )
    placements = {name: _placement(name) for name in POLICIES}
    variants: dict[str, Model] = {"challenger": model(challenger, "8")}
    setting = Setting(
        online,
        model(bundle, "7") if bundle is not None else None,
        placement=placements.get,
        experiment=_experiment,
        variant_model=variants.get,
        **options,
    )
    new = [f"new-{number:02}" for number in range(8)]
    for number, item_id in enumerate([*item_ids, *new]):
        attributes: dict[str, Any] = {
            "title": f"Item {number}", "number": number, "price": number * 10,
            "brand": BRANDS[number % 3], "sponsored": number in (11, 25),
            "shelf": f"shelf {number // 2}" if number < len(item_ids) else f"shelf {number % 9}",
        }  # fmt: skip
        if number % 4 == 0:
            attributes["colours"] = ["red", "green"][: 1 + number % 8 // 4]
        if number % 17 == 3:
            attributes["expires_at"] = NOW_MS + (-1 if number % 2 else 10**9)
        record = item_record(
            item_id,
            NOW_MS - 10**9 + number * 1000,
            attributes=attributes,
            available=number % 13 != 5,
            deleted=number % 29 == 7,
        )
        setting.catalog.apply(record)
    for served in (setting.model, *variants.values()):
        if served is not None:
            setting.catalog.mask(served)
    setting.catalog.compare_new_items(30.0)
    # A record says where the catalogue has just changed, which depends on the machine's pace.
    setting.catalog.changed_at = float("-inf")
    return setting


NAMES = (
    *("kept", "made", "ranker", "no model", "broken model", "unrecorded"),
    *("cut short", "store away"),
)


def scene(name: str) -> Scene:
    """The shop of a name."""
    shop, small = _shop_bundle(), _small_bundle()
    ids = [f"i{number}" for number in range(120)]
    champion, challenger, items, options = {
        "kept": (shop, shop, ITEMS, {"kept_lists": 50}),
        "made": (shop, small, ITEMS, {}),
        "ranker": (small, shop, ids, {"kept_lists": 50}),
        "no model": (None, shop, ITEMS, {}),
        "broken model": (broken(shop, *shop.retrievers), shop, ITEMS, {}),
        "unrecorded": (small, shop, ids, {"circumstances_bytes": 0}),
        "cut short": (shop, shop, ITEMS, {"circumstances_bytes": 900}),
        "store away": (shop, shop, ITEMS, {"kept_lists": 50}),
    }[name]
    setting = _setting(champion, challenger, items, **options)
    setting.online.away = name == "store away"
    visitors = [*setting.online.visitors, "stranger", "ünknown/1"]
    return Scene(name, setting, visitors, [*items, "new-00", "new-03"])
