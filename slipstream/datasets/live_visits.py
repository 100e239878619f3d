"""Visits of a living shop to running services, and the truth about them.

Shoppers ask serving for lists over REST and send what they do to ingestion, as Segment calls. The
pace is that of `rate`, in calls a second; a list shown is one call, whatever its length.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

import httpx
import orjson

from slipstream.contracts.times import now_ms
from slipstream.datasets.living_shop import (
    CURRENCY,
    LivingShop,
    Reaction,
    Visit,
    react,
    visits,
)
from slipstream.datasets.living_truth import STEP_S, Plan, Truth
from slipstream.datasets.upload import bodies

# Calls of one list before any is known.
_FIRST_MEAN: Final = 4.0
# The longest time that is caught up after a delay, so that services that were unavailable do not
# meet all that they missed.
_CATCH_UP_S: Final = 1.0
# A service that has not answered for this long ends the run.
PATIENCE_S: Final = 30.0
_PAUSE_S: Final = 0.5
_ITEMS_IN_BODY: Final = 500
# Attributes that the broken importer loses.
_LOST: Final = ("categories", "brand", "price", "currency")


class LiveError(RuntimeError):
    """A service refuses the simulator's requests. The message has its words."""


class SilentServiceError(LiveError):
    """A service does not answer."""


def calls(
    visit: Visit,
    place: int,
    slate: Mapping[str, Any],
    reaction: Reaction,
    *,
    prefix: str,
    at_ms: int,
    feature_broken: bool = False,
) -> list[dict[str, Any]]:
    """The Segment calls about a list: that it was shown, and each deed with what followed.

    Args:
        place: Place of the list in it, from 0.
        slate: Serving's answer.
        reaction: What the shopper did.
        prefix: Beginning of message ids, another one for each run.
        feature_broken: Whether clicks and carts have the names of the broken tracker.
    """
    slate_id = slate["recommendation_id"]
    shown = [
        {"product_id": item["item_id"], "position": item["position"]} for item in slate["items"]
    ]
    made: list[tuple[str, dict[str, Any]]] = []
    if shown:
        listed = {"products": shown, "recommendation_id": slate_id}
        made.append(("Product List Viewed", listed))
    clicked, added = (
        ("Item Tapped", "Basket Changed")
        if feature_broken
        else ("Product Clicked", "Product Added")
    )
    for number, deed in enumerate(reaction.deeds):
        item = {"product_id": deed.item_id}
        led = (
            {}
            if deed.position is None
            else {"recommendation_id": slate_id, "position": deed.position}
        )
        paid = {"price": deed.price, "currency": CURRENCY}
        if led:
            made.append((clicked, item | led))
        made.append(("Product Viewed", item | paid))
        if deed.carted:
            made.append((added, item | led | paid | {"quantity": 1}))
        if deed.bought:
            order = {
                "order_id": f"{prefix}-{visit.number}-{place}-{number}",
                "currency": CURRENCY,
                "revenue": deed.price,
                "products": [item | led | {"price": deed.price, "quantity": 1}],
            }
            made.append(("Order Completed", order))
    return [
        {
            "type": "track",
            "messageId": f"{prefix}-{visit.number}-{place}-{number}",
            **who(visit, place),
            "event": name,
            # A millisecond apart, so that their order is known.
            "timestamp": _iso(at_ms + number),
            "properties": properties,
        }
        for number, (name, properties) in enumerate(made)
    ]


def who(visit: Visit, place: int) -> dict[str, str]:
    """The ids of a call: the device, and the account where the shopper is logged in."""
    user_id = visit.user_id(place)
    return {"anonymousId": visit.anonymous_id, **({"userId": user_id} if user_id else {})}


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


class LiveVisits:
    """A run of visits against running services. Message ids begin with `prefix`, another one for
    each run, since ingestion knows repeats.
    """

    def __init__(
        self,
        shop: LivingShop,
        plan: Plan,
        ingestion: httpx.AsyncClient,
        serving: httpx.AsyncClient,
        prefix: str,
        tell: Callable[[str], None],
    ) -> None:
        self._shop, self._plan, self._prefix, self._tell = shop, plan, prefix, tell
        self._ingestion, self._serving = ingestion, serving
        self._visits: Iterator[Visit] = visits(shop)
        # A shopper makes one visit at a time, however many there are.
        self._busy: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stop = asyncio.Event()
        self._began = self._next = 0.0
        self._answered_at: dict[str, float] = {}
        self.truth = Truth(shop, plan, now_ms())

    def stop(self) -> None:
        """Let visits under way end their present list, and no other begin."""
        self._stop.set()

    async def run(self) -> None:
        """Send the catalogue where the plan says so, then visit until the plan's end or `stop`.

        `truth` is complete in any case.

        Raises:
            LiveError: A service refuses the simulator, or has not answered for `PATIENCE_S`.
        """
        await self._ask("serving", self._serving, "/health/live")
        if self._plan.sends_items:
            await self._send_items(self._shop.items)
        self._began = self._next = time.monotonic()
        self.truth.started_at = now_ms()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_course())
                for _ in range(self._plan.concurrency):
                    tasks.create_task(self._visit_on())
        except* LiveError as errors:
            raise errors.exceptions[0] from None
        finally:
            self.truth.ended_at = now_ms()

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    async def _sleep(self, seconds: float) -> None:
        """Wait; `stop` ends it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), max(seconds, 0.0))

    async def _keep_course(self) -> None:
        """Shift, break, tell and end when the plan says so."""
        plan, truth = self._plan, self.truth
        due: list[tuple[float, Callable[[], Any]]] = []
        if plan.shift_s is not None:
            due.append((plan.shift_s, self._shift))
        if plan.broken is not None:
            due.append((plan.break_s, self._break))
        due.sort(key=itemgetter(0))
        told, before = STEP_S, 0
        while not self._stop.is_set():
            now = self._elapsed()
            while due and due[0][0] <= now:
                await due.pop(0)[1]()
            if plan.seconds is not None and now >= plan.seconds:
                self.stop()
            if now >= told:
                sent = sum(truth.events.values())
                self._tell(self._progress(now, (sent - before) / STEP_S))
                told, before = told + STEP_S, sent
            moments = [moment for moment, _ in due] + [told, plan.seconds or told]
            await self._sleep(max(min(moments) - self._elapsed(), 0.05))

    def _progress(self, now: float, rate: float) -> str:
        truth = self.truth
        lists = truth.series[int(now // STEP_S) - 1]
        share, due = (
            (part / lists.lists if lists.lists else 0.0)
            for part in (lists.clicked, lists.expected_clicked)
        )
        missing = "".join(
            f", {count:,} without an answer of {name}" for name, count in truth.unanswered.items()
        )
        phase = "" if truth.shifted_at is None else ", tastes have changed"
        broken = "" if truth.broke_at is None else f", {self._plan.broken} is broken"
        return (
            f"{now:5.0f} s  {sum(truth.events.values()):,} events ({rate:,.0f}/s),"
            f" {lists.lists:,} lists, {share:.1%} clicked ({due:.1%} by the truth)"
            f"{phase}{broken}{missing}"
        )

    async def _shift(self) -> None:
        self.truth.shifted_at = now_ms()
        self._tell("Tastes change.")

    async def _break(self) -> None:
        self.truth.broke_at = now_ms()
        if self._plan.broken == "catalogue":
            self._tell("The importer loses categories, brands and prices.")
            await self._send_items(
                [{k: v for k, v in item.items() if k not in _LOST} for item in self._shop.items]
            )
        else:
            self._tell("The tracker sends clicks and carts under other names.")

    async def _send_items(self, items: Sequence[Mapping[str, Any]]) -> None:
        encoded = (orjson.dumps(dict(item)) for item in items)
        for body, _ in bodies(encoded, "items", _ITEMS_IN_BODY):
            await self._ask_again("ingestion", self._ingestion, "/v1/items", body)

    async def _visit_on(self) -> None:
        while not self._stop.is_set():
            visit = next(self._visits)
            async with self._busy[visit.shopper]:
                self.truth.visits += 1
                for place in range(visit.lists):
                    await self._due()
                    if self._stop.is_set() or not await self._look_at_a_list(visit, place):
                        break

    async def _due(self) -> None:
        """Wait for the moment of the next list, by the mean number of its calls."""
        now = time.monotonic()
        at = max(self._next, now - _CATCH_UP_S)
        self._next = at + self._mean() / self._plan.rate
        # Without a wait, too: the others have their turn.
        await (self._sleep(at - now) if at > now else asyncio.sleep(0))

    def _mean(self) -> float:
        lists = self.truth.lists
        return sum(self.truth.events.values()) / lists if lists > 50 else _FIRST_MEAN

    async def _look_at_a_list(self, visit: Visit, place: int) -> bool:
        """Ask for a list, look at it, react; whether the shopper stays."""
        plan = self._plan
        if visit.logs_in and visit.logged_in_from == place:
            self.truth.logins += 1
            login = {
                "type": "identify",
                "messageId": f"{self._prefix}-{visit.number}-login",
                **who(visit, place),
            }
            if not await self._send([login]):
                return False
        body: dict[str, Any] = {
            "user_id": visit.user_id(place) or visit.anonymous_id,
            "n": plan.places,
        }
        if plan.placement:
            body["placement"] = plan.placement
        slate = await self._ask("serving", self._serving, "/v1/recommendations", orjson.dumps(body))
        if slate is None:
            return False
        shifted = self.truth.shifted_at is not None
        shown = [item["item_id"] for item in slate["items"]]
        reaction = react(self._shop, visit, place, shown, shifted=shifted)
        self.truth.add(slate, reaction, shifted=shifted, at_s=self._elapsed())
        made = calls(
            visit,
            place,
            slate,
            reaction,
            prefix=self._prefix,
            at_ms=now_ms(),
            feature_broken=plan.broken == "feature" and self.truth.broke_at is not None,
        )
        return not made or await self._send(made)

    async def _send(self, made: Sequence[dict[str, Any]]) -> bool:
        """Send calls until they are answered, under the same ids; False where `stop` came first."""
        body = orjson.dumps({"batch": made})
        answer = await self._ask_again("ingestion", self._ingestion, "/v1/batch", body)
        if answer is None:
            self.truth.unsent += len(made)
            return False
        for call, verdict in zip(made, answer["results"], strict=True):
            if verdict["status"] == "rejected":
                self.truth.rejected[verdict["code"]] += 1
            else:
                self.truth.events[call.get("event", call["type"])] += 1
        return True

    async def _ask_again(
        self, service: str, client: httpx.AsyncClient, path: str, body: bytes
    ) -> Any:
        """The answer to a request that is repeated until there is one; None after `stop`."""
        while (answer := await self._ask(service, client, path, body)) is None:
            if self._stop.is_set():
                return None
        return answer

    async def _ask(
        self, service: str, client: httpx.AsyncClient, path: str, body: bytes | None = None
    ) -> Any:
        """The answer to a POST, or to a GET without a body; None where it may come later.

        Raises:
            SilentServiceError: The service has never answered, or not for `PATIENCE_S`.
            LiveError: It refuses the request.
        """
        try:
            response = await client.request(
                "GET" if body is None else "POST",
                path,
                content=body,
                headers={"Content-Type": "application/json"},
            )
        except httpx.TransportError as error:
            complaint = str(error) or type(error).__name__
        else:
            if response.status_code == 200:
                self._answered_at[service] = time.monotonic()
                return orjson.loads(response.content)
            complaint = f"{response.status_code} to {path}: {response.text[:300]}"
            if response.status_code not in (429, 502, 503, 504):
                raise LiveError(f"{service} at {client.base_url} answers {complaint}")
        self.truth.unanswered[service] += 1
        if service not in self._answered_at:
            raise SilentServiceError(f"{service} at {client.base_url} does not answer: {complaint}")
        if time.monotonic() - self._answered_at[service] > PATIENCE_S:
            raise SilentServiceError(
                f"{service} at {client.base_url} has not answered for {PATIENCE_S:.0f} s:"
                f" {complaint}"
            )
        await self._sleep(_PAUSE_S)
        return None
