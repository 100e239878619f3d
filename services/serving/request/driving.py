"""The driving of a slate's making: lists from kernels, demand from the store, masks from threads.

A list is kept for a visitor who does nothing meanwhile: a page asks for several slates in a row,
and is opened again. A list depends on its model and its key alone, so a kept one is what the model
would answer. The revision of a visitor's state stands for the events, so that a kept list is found
before anything is decoded. No visitor's id is kept.

Requests that wait at the same time share one call of the kernels. It runs in a thread of its own
and holds no GIL, so that a process uses two cores: the event loop reads and answers meanwhile.
Requests that come during calls share the next one. A request that is alone is answered in the
event loop.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from cachetools import TTLCache  # type: ignore[import-untyped, unused-ignore]

from services.serving.metrics import ServingMetrics
from services.serving.request.store_reads import Budget
from services.serving.request.trending import DemandSource
from services.serving.state.filter_masks import FilterMasks
from slipstream.contracts.circumstances import RecordedHistory
from slipstream.features.visitor import SequenceEvent
from slipstream.filters.conditions import Own
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, RankedList
from slipstream.slates import given_items, making
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.funnel import Observation
from slipstream.slates.slate_plan import (
    Candidate,
    DemandAsked,
    ListAsked,
    MadeSlate,
    Making,
    MaskAsked,
    SlatePlan,
    WorkAsked,
)
from slipstream.slates.slate_request import Step, VisitorReading

# Lists of one call. The first one waits for the last.
MOST_LISTS: Final = 8
# Calls that are begun or wait for the thread: with the second one it need not wait for the loop.
CALLS: Final = 2


class _Waiting(NamedTuple):
    bundle: Bundle
    question: ListQuestion
    answer: asyncio.Future[RankedList]

    def shares_call(self, other: "_Waiting") -> bool:
        mine, theirs = self.question.request, other.question.request
        return (
            self.bundle is other.bundle
            and mine.allowed is theirs.allowed
            and mine._replace(allowed=None) == theirs._replace(allowed=None)
        )


class GatheredLists:
    """Calls of the kernels, one after the other. Used in one event loop; a failure reaches all who
    share the call.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._groups: SimpleQueue[tuple[asyncio.AbstractEventLoop, list[_Waiting]] | None] = (
            SimpleQueue()
        )
        # Futures of an executor would cost as much again as the hand-over.
        self._thread = Thread(target=self._run, name="kernels", daemon=True)
        self._thread.start()
        self._calls, self._due = 0, False

    def recommend(self, bundle: Bundle, question: ListQuestion) -> asyncio.Future[RankedList]:
        """The answer to a question. It raises what the kernels raise."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(bundle, question, loop.create_future())
        self._waiting.append(waiting)
        if not self._due and self._calls < CALLS:
            self._due = True
            loop.call_soon(self._ask, loop)
        return waiting.answer

    def close(self) -> None:
        """Wait for a call that runs, and end the thread."""
        self._groups.put(None)
        self._thread.join()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask for those who wait, as long as calls may begin."""
        self._due = False
        while self._calls < CALLS and (group := self._next_group()):
            if len(group) == 1 and not self._calls and not self._waiting:
                bundle, questions = group[0].bundle, [group[0].question]
                try:
                    _settle(group, stages.answers(bundle, questions))
                except Exception as error:
                    _settle(group, error)
                return
            self._calls += 1
            self._groups.put((loop, group))

    def _run(self) -> None:
        """Make lists in the thread, until a None ends it."""
        while (asked := self._groups.get()) is not None:
            loop, group = asked
            answers: list[RankedList] | Exception
            try:
                answers = stages.answers(group[0].bundle, [each.question for each in group])
            except Exception as error:
                answers = error
            loop.call_soon_threadsafe(self._ended, loop, group, answers)

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        while self._waiting and len(group) < MOST_LISTS:
            if group and not group[0].shares_call(self._waiting[0]):
                break
            waiting = self._waiting.popleft()
            if not waiting.answer.done():  # Else the client has left.
                group.append(waiting)
        return group

    def _ended(
        self,
        loop: asyncio.AbstractEventLoop,
        group: Sequence[_Waiting],
        answers: list[RankedList] | Exception,
    ) -> None:
        self._calls -= 1
        _settle(group, answers)
        self._ask(loop)


def _settle(group: Sequence[_Waiting], answers: list[RankedList] | Exception) -> None:
    if isinstance(answers, Exception):
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(answers)
        return
    for waiting, answer in zip(group, answers, strict=True):
        if not waiting.answer.done():
            waiting.answer.set_result(answer)


# Longest time that a list is given. It is deleted at the next sweep, and with it the history of
# somebody who may have been erased meanwhile.
LIFETIME_S: Final = 240.0
SWEEP_S: Final = 60.0
_NOTHING: Final = frozenset[str]()


# The visitor of a list: the revision of the state, or the events where there is none.
Who = bytes | tuple[SequenceEvent, ...]
# All that a list depends on besides the model: its visitor; the items left out, of those that the
# model knows (a client may name others, of any length); its length; whether items of the history
# may come again, and of which the model decides; and `Catalog.visibility`, read before the list was
# made.
ListKey = tuple[Who, frozenset[str], int, bool | None, frozenset[Own], int]


class KeptList(NamedTuple):
    """A list of the model, and its visitor with the features of that moment."""

    visitor: VisitorReading
    listed: Sequence[Candidate]

    @classmethod
    def of(cls, visitor: VisitorReading, listed: Sequence[Candidate]) -> "KeptList":
        """A list to be kept, without the ids of those who were merged into the visitor."""
        state = visitor.state
        if state is not None and (state.merged or state.applied):
            state = replace(state, merged={}, applied={})
        if visitor.columns is None:
            visitor.columns = RecordedHistory.columns(visitor.history)
        return cls(replace(visitor, state=state), listed)


KeptByKey = MutableMapping[ListKey, KeptList]


class KeptLists:
    """Store of the lists of each model, which go with the model. Used in one event loop.

    Args:
        most: Most lists of a model, of 10 to 15 KB each; the least recently used one goes.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self._clock = most, clock
        self._of_models: WeakKeyDictionary[Model, Any] = WeakKeyDictionary()

    def sweep(self) -> None:
        """Delete expired lists. The library does so only where a list is added."""
        for kept in self._of_models.values():
            kept.expire()

    async def sweep_for_ever(self) -> None:
        """Delete expired lists, again and again."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def of(self, model: Model) -> KeptByKey:
        """The lists of a model; one that keeps nothing where no lists are wanted."""
        if not self.most:
            return {}
        kept = self._of_models.get(model)
        if kept is None:
            kept = self._of_models[model] = TTLCache(self.most, LIFETIME_S, self._clock)
        lists: KeptByKey = kept
        return lists


def list_key(plan: SlatePlan, who: Who, catalog: Catalog) -> ListKey | None:
    """The key of the list that a model makes for a plan; None where it may not be kept.

    The mask of a filter may be a second old, and a list that is kept would be so for longer.
    """
    if plan.model is None or plan.condition is not None or Step.MODEL not in plan.steps:
        return None
    space, request = catalog.space(plan.model), plan.request
    visible = catalog.visibility() + space.revision
    hidden = (*request.exclude, *request.before, *request.similar_to)
    known = frozenset(filter(space.__contains__, hidden)) if hidden else _NOTHING
    return who, known, plan.depth, plan.repeats, plan.learned, visible


class Driver:
    """The making of slates with servers and threads behind it. Used in one event loop.

    Args:
        catalog: Availability and attributes of items.
        lists: Calls of the model's kernels, which requests share.
        kept: Lists that were made before, by model.
    """

    def __init__(
        self,
        catalog: Catalog,
        measured: ServingMetrics,
        lists: GatheredLists,
        demand: DemandSource,
        kept: KeptLists,
    ) -> None:
        self.catalog, self._measured = catalog, measured
        self._lists, self._demand, self._kept = lists, demand, kept
        self.masks = FilterMasks(catalog)

    def kept(self, plan: SlatePlan, who: Who) -> KeptList | None:
        """The list that was kept for such a plan; None where the model is to make one."""
        if not self._kept.most or plan.request.fresh or plan.model is None or not who:
            return None
        key = list_key(plan, who, self.catalog)
        return None if key is None else self._kept.of(plan.model).get(key)

    async def slate(
        self,
        plan: SlatePlan,
        visitor: VisitorReading,
        budget: Budget,
        who: Who = b"",
        kept: KeptList | None = None,
        observed: Observation | None = None,
    ) -> MadeSlate:
        """The slate of a plan.

        Args:
            budget: The time that is left to wait for the online store.
            who: The revision of the visitor's state; empty where it says nothing of the events.
            kept: The list that `kept` gave for it.
            observed: Takes notes of the making.
        """
        key = None
        if kept is None and self._kept.most and plan.model is not None:
            # Read before the list is made: what is shown or hidden meanwhile is another key's.
            key = list_key(plan, who or tuple(visitor.history), self.catalog)
            if not who:
                kept = self.kept(plan, tuple(visitor.history))
        if kept is not None:
            self._measured.kept_lists.inc()
            if (made := making.kept_slate(plan, kept.listed)) is not None:
                return made
        listed = kept.listed if kept is not None else None
        steps = making.slate(plan, visitor, self.catalog, listed)
        if observed is not None:
            steps = observed.watching(steps)
        made = await self._driven(steps, budget)
        if kept is None and key is not None and plan.model is not None and made.listed is not None:
            # A plain slate that no other step has filled is the list as it stands.
            whole = plan.is_plain and len(made.items) == len(made.listed)
            self._kept.of(plan.model)[key] = KeptList.of(
                visitor, made.items if whole else made.listed
            )
        return made

    async def ranking(self, plan: SlatePlan, visitor: VisitorReading, budget: Budget) -> MadeSlate:
        """The order of a plan's given items. Arguments as of `slate`."""
        return await self._driven(given_items.ranking(plan, visitor, self.catalog), budget)

    async def _driven(self, steps: Making, budget: Budget) -> MadeSlate:
        try:
            asked = next(steps)
            while True:
                try:
                    match asked:
                        case ListAsked(bundle, question):
                            answer: Any = await self._lists.recommend(bundle, question)
                        case DemandAsked():
                            answer = await self._demand.demand(asked, budget)
                        case MaskAsked(model, wanted):
                            answer = await self.masks.allowed(model, wanted)
                        case WorkAsked(work):
                            answer = await asyncio.to_thread(work)
                except Exception as error:
                    asked = steps.throw(error)
                else:
                    asked = steps.send(answer)
        except StopIteration as end:
            made: MadeSlate = end.value
        for stage, began, seconds in made.took:
            self._measured.took(stage, began, seconds)
        for part, failure in made.failures:
            self._measured.failed(part, failure)
        return made
