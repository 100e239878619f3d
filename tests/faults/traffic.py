"""A seeded stream of Segment messages, each with what must come of it once it is acknowledged.

Two groups of visitors that share no item. Those of the first browse alone; each stays within one
shelf and within its sequence, so that the items visited together are known exactly, too. Those of
the second begin on a device and become a user, by `identify` or `alias`, more devices than one for
a user; the user may turn out to be another user. Links never contradict each other, so what must
come of them does not depend on the order in which they arrive.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

SHELF = 12
SHELVES = 20
LONERS_AT_ONCE, LONER_EVENTS = 40, 60
TRAVELLERS_AT_ONCE, TRAVELLER_EVENTS = 30, 70
TRAVELLER_ITEMS = 80
# Event names as SDKs send them, and the types that they mean.
TRACKED = {
    "Product Viewed": "view",
    "Product Clicked": "click",
    "Product Added": "cart",
    "Products Searched": "search",
    "wave": "wave",
}
WEIGHTS = (50, 20, 10, 8, 2)
# An event is this much older than its message at most: it arrives out of order.
LATEST_MS = 30_000


class Event(NamedTuple):
    """An interaction that a message makes, as the lake must hold it."""

    event_id: str
    user_id: str
    event_type: str
    item_id: str | None
    timestamp: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A message, the events that it makes, and the visitor and user that it links, if it does."""

    message: dict[str, Any]
    events: tuple[Event, ...] = ()
    link: tuple[str, str] | None = None


@dataclass(slots=True)
class _Visitor:
    device: str
    shelf: list[str]
    left: int
    user: str | None = None
    link_at: int = 0
    later: list[tuple[str, str]] = field(default_factory=list)


class Traffic:
    """`messages()` never ends. Everything but the times follows from the seed.

    Two streams for the same stack need different names, which their ids and visitors begin with.
    `lists` has the newest list of a visitor, which events with one item name; any thread may write.
    """

    def __init__(self, seed: int, name: str = "") -> None:
        self._chance, self._name = random.Random(seed), name
        self.lists: dict[str, str] = {}
        self._number = self._loners_made = self._travellers_made = 0
        self._loners = [self._loner() for _ in range(LONERS_AT_ONCE)]
        self._travellers = [self._traveller() for _ in range(TRAVELLERS_AT_ONCE)]

    def visitors(self) -> list[str]:
        """The visitors who are about: devices, and users. Any thread may call it."""
        devices = [each.device for each in (*self._loners, *self._travellers)]
        return devices + [each.user for each in self._travellers if each.user]

    def messages(self) -> Iterator[Sent]:
        while True:
            group, fresh = (
                (self._loners, self._loner)
                if self._chance.random() < 0.6
                else (self._travellers, self._traveller)
            )
            place = self._chance.randrange(len(group))
            visitor = group[place]
            yield from self._turn(visitor)
            if visitor.left <= 0:
                group[place] = fresh()

    def _turn(self, visitor: _Visitor) -> Iterator[Sent]:
        known = visitor.user is not None and visitor.left <= visitor.link_at
        if known and visitor.later:
            for link in visitor.later:
                yield self._linked(*link)
            visitor.later = []
        # A device that is known may still send on its own: an older page that is open, or a message
        # that was late.
        who = (
            {"userId": visitor.user, "anonymousId": visitor.device}
            if known and self._chance.random() < 0.7
            else None
        )
        yield self._event(who or {"anonymousId": visitor.device}, visitor)
        if known and self._chance.random() < 0.02:
            yield self._linked(visitor.device, str(visitor.user))  # SDKs identify at each login

    def _event(self, who: dict[str, Any], visitor: _Visitor) -> Sent:
        user_id = who.get("userId") or who["anonymousId"]
        happened = time.time_ns() // 1_000_000 - self._chance.randrange(LATEST_MS)
        message_id = self._message_id()
        head = {"type": "track", "messageId": message_id, "timestamp": _iso(happened), **who}
        if self._chance.random() < 0.04:
            items = self._chance.sample(visitor.shelf, 3)
            prices = [self._chance.randrange(1, 50) for _ in items]
            products = [
                {"product_id": item, "price": price, "quantity": 2}
                for item, price in zip(items, prices, strict=True)
            ]
            events = [
                Event(f"{message_id}:{index}", user_id, "purchase", item, happened, 2.0 * price)
                for index, (item, price) in enumerate(zip(items, prices, strict=True))
            ]
            visitor.left -= len(events)
            order = {
                "event": "Order Completed",
                "properties": {"order_id": message_id, "products": products},
            }
            return Sent({**head, **order}, tuple(events))
        visitor.left -= 1
        name = self._chance.choices(list(TRACKED), WEIGHTS)[0]
        kind = TRACKED[name]
        item_id = None if kind in ("search", "wave") else self._chance.choice(visitor.shelf)
        properties = {"query": "tea"} if item_id is None else {"product_id": item_id}
        if item_id is not None and (list_id := self.lists.get(user_id)):
            properties["recommendation_id"] = list_id
        return Sent(
            {**head, "event": name, "properties": properties},
            (Event(message_id, user_id, kind, item_id, happened, None),),
        )

    def _linked(self, visitor: str, user: str) -> Sent:
        head = {
            "messageId": self._message_id(),
            "timestamp": _iso(time.time_ns() // 1_000_000),
            "userId": user,
        }
        if self._chance.random() < 0.5:
            return Sent({**head, "type": "alias", "previousId": visitor}, link=(visitor, user))
        return Sent(
            {**head, "type": "identify", "anonymousId": visitor, "traits": {"plan": "pro"}},
            link=(visitor, user),
        )

    def _loner(self) -> _Visitor:
        self._loners_made += 1
        shelf = self._loners_made % SHELVES
        return _Visitor(
            f"loner-{self._name}{self._loners_made}",
            [f"shelf-{shelf}-{place}" for place in range(SHELF)],
            LONER_EVENTS,
        )

    def _traveller(self) -> _Visitor:
        self._travellers_made += 1
        number = self._travellers_made
        user = number // 3  # the devices of one person
        later = [(f"device-{self._name}{number}", f"person-{self._name}{user}")]
        if number % 9 == 0 and user:
            later.append((f"person-{self._name}{user}", f"household-{self._name}{user // 3}"))
        self._chance.shuffle(later)
        return _Visitor(
            f"device-{self._name}{number}",
            [f"travelled-{place}" for place in range(TRAVELLER_ITEMS)],
            TRAVELLER_EVENTS,
            f"person-{self._name}{user}",
            self._chance.randrange(10, 60),
            later,
        )

    def _message_id(self) -> str:
        self._number += 1
        return f"{self._name}m{self._number}"


def _iso(millis: int) -> str:
    # Of whole milliseconds: the text must give back the same number.
    return (
        datetime.fromtimestamp(millis // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        + f".{millis % 1000:03d}Z"
    )
