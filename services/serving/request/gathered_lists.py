"""Lists for requests that wait at the same time, made by one call of the model's kernels.

The call runs in a thread of its own and holds no GIL, so that a process uses two cores: the event
loop reads and answers meanwhile. Requests that come during calls share the next one. A request
that is alone is answered in the event loop, since a thread's start and end would cost it more.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Final, NamedTuple

from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import ListQuestion, Recommendation

# Lists of one call. The first one waits for the last.
MOST_LISTS: Final = 8
# Calls that are begun or wait for the thread: with the second one it need not wait for the loop.
CALLS: Final = 2


class _Waiting(NamedTuple):
    bundle: Bundle
    question: ListQuestion
    answer: asyncio.Future[list[Recommendation]]

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

    def recommend(
        self, bundle: Bundle, question: ListQuestion
    ) -> asyncio.Future[list[Recommendation]]:
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
        """Make lists in the thread, until it is told to end."""
        while (asked := self._groups.get()) is not None:
            loop, group = asked
            answers: list[list[Recommendation]] | Exception
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
        answers: list[list[Recommendation]] | Exception,
    ) -> None:
        self._calls -= 1
        _settle(group, answers)
        self._ask(loop)


def _settle(group: Sequence[_Waiting], answers: list[list[Recommendation]] | Exception) -> None:
    if isinstance(answers, Exception):
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(answers)
        return
    for waiting, answer in zip(group, answers, strict=True):
        if not waiting.answer.done():
            waiting.answer.set_result(answer)
