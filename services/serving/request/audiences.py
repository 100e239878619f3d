"""The likely audience of an item among the users who were active last."""

import asyncio
import heapq
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.serving.metrics import ServingMetrics
from services.serving.request.store_reads import ActiveVisitor, Load, OverloadedError, StoreReads
from slipstream.recommender.interest import Interest
from slipstream.slates.audience_scores import ActiveUser, ItemInModel, item_in_model, scored
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import Step
from slipstream.stores.online import StoreUnavailableError

# Visitors that are read and scored at once. Their states are decoded in the event loop.
GROUP: Final = 32
# Time after which no further group is begun.
LONGEST_S: Final = 10.0


class AudienceRequest(NamedTuple):
    """A request for the `n` users with the most interest in an item.

    `among` is the number of visitors, active last, that are looked at. Users who had to do with the
    item are left out unless `include_met`.
    """

    item_id: str
    n: int = 10
    among: int = 1_000
    include_met: bool = False


@dataclass(slots=True)
class Audience:
    """The users, best first, and how they were found.

    Attributes:
        users: The users with their interest.
        looked_at: Number of users that were looked at.
        already_met: Number of those who had to do with the item, and were left out for that.
        active_since: When the one of them was active who was active the longest ago (ms).
        active_until: When the one was who was active last (ms).
        model_version: The model that scored the item; None where none did.
        reasons: Why there are no users, or what was left out.
    """

    users: Sequence[tuple[ActiveUser, Interest]] = ()
    looked_at: int = 0
    already_met: int = 0
    active_since: int | None = None
    active_until: int | None = None
    model_version: str | None = None
    reasons: list[str] = field(default_factory=list)


class Audiences:
    """Audiences, made one at a time, with a thread of their own: each is worth thousands of lists.

    Used in one event loop.

    Args:
        catalog: Availability and attributes of items.
        longest_wait_s: Wait for its turn from which a request is refused.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        store: StoreReads,
        current_model: Callable[[], Model | None],
        catalog: Catalog,
        measured: ServingMetrics,
        load: Load,
        longest_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._current_model, self._catalog = store, current_model, catalog
        self._measured, self._load, self._longest_wait_s = measured, load, longest_wait_s
        self._turn, self._thread = asyncio.Lock(), ThreadPoolExecutor(1, "audiences")
        self._clock = clock
        # Visitors of the requests in work, and the time that one visitor took of late.
        self._visitors, self._visitor_s = 0, 0.0

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    async def of(self, wanted: AudienceRequest) -> Audience:
        """The audience of an item.

        Empty, with a reason, without a model or the online store. Raises `OverloadedError`.
        """
        model = self._current_model()
        if model is None:
            return Audience(reasons=["no model is loaded yet"])
        item = item_in_model(wanted.item_id, model, self._catalog)
        if item is None:
            return Audience(
                reasons=["the model knows neither the item nor one with similar attributes"]
            )
        audience = Audience(model_version=model.version)
        if not self._catalog.shown(wanted.item_id):
            audience.reasons.append("the item can't be shown now")
        try:
            with self._load.taken(0):
                active = await self._store.active_visitors(wanted.among, self._store.budget())
            with self._taken(len(active)):
                async with self._turn:
                    await self._look_at(active, item, wanted, audience)
        except StoreUnavailableError:
            self._measured.degraded.labels("online_store").inc()
            audience.reasons.append("the online store does not answer")
        except OverloadedError:
            raise
        except Exception as error:  # who was found before is an answer
            self._measured.failed(Step.MODEL, error)
            audience.reasons.append("the model failed")
        return audience

    async def _look_at(
        self,
        active: Sequence[ActiveVisitor],
        item: ItemInModel,
        wanted: AudienceRequest,
        audience: Audience,
    ) -> None:
        """Score the item for these visitors, and keep the best in the audience."""
        loop, began = asyncio.get_running_loop(), self._clock()
        known: set[str] = set()
        unscored = 0
        for first in range(0, len(active), GROUP):
            if self._clock() - began > LONGEST_S:
                audience.reasons.append(
                    f"time was over after {first} of {len(active)} active visitors"
                )
                break
            users = await self._users(active[first : first + GROUP], known)
            if not users:
                continue
            known.update(user.user_id for user in users)
            asked = [user for user in users if wanted.include_met or not _met(user, wanted.item_id)]
            found = await loop.run_in_executor(self._thread, scored, item, asked, self._catalog)
            unscored += len(asked) - len(found)
            audience.already_met += len(users) - len(asked)
            audience.looked_at = len(known)
            audience.active_until = audience.active_until or users[0].active_at
            audience.active_since = users[-1].active_at
            # A score of 0 says that nothing is known of this visitor and the item.
            interested = (each for each in found if each[1].score > 0)
            audience.users = heapq.nsmallest(
                wanted.n,
                [*audience.users, *interested],
                key=lambda each: (-each[1].score, -each[0].active_at),
            )
        if unscored:
            audience.reasons.append(f"the model knows nothing of the history of {unscored} users")
        if not known:
            audience.reasons.append("no visitor has been active yet")
        elif active:
            self._visitor_s = (self._clock() - began) / len(known)

    async def _users(
        self, visitors: Sequence[ActiveVisitor], known: Collection[str]
    ) -> list[ActiveUser]:
        """The users that these visitors are, each once, but for those known already."""
        read = await self._store.users([name for name, _ in visitors], self._store.budget())
        users: dict[str, ActiveUser] = {}
        for visitor_id, active_at in visitors:
            user_id, state = read.get(visitor_id, ("", None))
            if state is not None and user_id not in known:
                users.setdefault(user_id, ActiveUser(user_id, state.sequence, active_at))
        return list(users.values())

    @contextmanager
    def _taken(self, visitors: int) -> Iterator[None]:
        """Count a request for as long as the block runs.

        Raises `OverloadedError` where it would wait too long for its turn.
        """
        if (wait_s := self._visitors * self._visitor_s) > self._longest_wait_s:
            raise OverloadedError(wait_s, self._longest_wait_s)
        self._visitors += visitors
        try:
            yield
        finally:
            self._visitors -= visitors


def _met(user: ActiveUser, item_id: str) -> bool:
    return any(event.item_id == item_id for event in user.history)
