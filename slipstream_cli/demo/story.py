"""The demo's steps, in order, all over REST, as any client could."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.datasets.movielens import EventFiles
from slipstream_cli.demo import screen
from slipstream_cli.demo.preparation import DemoError as DemoError
from slipstream_cli.demo.preparation import Preparation, movielens_files
from slipstream_cli.demo.tastes import DemoVisitor, contrasting_visitors, films_of_another_kind
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal

CHANGE_LIMIT_S = 2.0
CLICKS = 3
SLATE = 10


class Click(NamedTuple):
    """A click that the demo sent, with its time in ms."""

    message_id: str
    user_id: str
    item_id: str
    timestamp: int


class Demo:
    """The demo on a local stack.

    `movielens` is a folder with the data, for machines that can't fetch it. `clicks` are those that
    ingestion has accepted, in their order.
    """

    def __init__(self, plan: Plan, terminal: Terminal, movielens: Path | None = None) -> None:
        self._plan, self._terminal = plan, terminal
        self._preparation = Preparation(
            plan, terminal, lambda: movielens_files(plan, terminal, movielens)
        )
        self._peers = self._preparation.peers
        self.clicks: list[Click] = []

    def run(self, start: Callable[[], None]) -> EventFiles:
        """Run all steps; `start` starts the stack. Returns the files that were replayed.

        Raises:
            DemoError: A step failed.
        """
        began = time.perf_counter()
        files = self._preparation.run(start)
        interactions, items = pq.read_table(files.interactions), pq.read_table(files.items)
        visitors = contrasting_visitors(interactions, items)
        with self._preparation.explained():
            self._show(visitors, items)
        self._terminal.line(f"\nFrom the start to here: {time.perf_counter() - began:.0f} s")
        self._terminal.show(screen.where_to_look(self._plan, visitors[0].user_id))
        return files

    def _show(self, visitors: list[DemoVisitor], items: pa.Table) -> None:
        films = {row["item_id"]: row for row in items.to_pylist()}
        slates = [self._recommended(visitor.user_id) for visitor in visitors]
        for visitor, slate in zip(visitors, slates, strict=True):
            self._terminal.show(
                screen.visitor(
                    visitor, [films[item] for item in self._sequence(visitor.user_id)], slate
                )
            )
        self._click(visitors[0], slates[0], slates[1:])

    def _sequence(self, user_id: str) -> list[str]:
        """Read the visitor's items, newest first, with the clicks of earlier demos."""
        detail = self._peers["features"].get(f"/v1/features/visitor/{user_id}")
        return [event["item_id"] for event in reversed(detail["sequence"])]

    def _recommended(self, user_id: str) -> list[dict[str, Any]]:
        answer = self._peers["serving"].get(
            f"/v1/recommendations/{user_id}", n=SLATE, attributes=True
        )
        if answer["answered_by"] != "model":
            raise DemoError(
                f"visitor {user_id} was answered by {answer['answered_by']}: {answer['reason']}."
                " If the champion was trained on other data, give the demo another --data-dir."
            )
        slate: list[dict[str, Any]] = answer["items"]
        return slate

    def _click(
        self, visitor: DemoVisitor, before: list[dict[str, Any]], others: list[list[dict[str, Any]]]
    ) -> None:
        """Send a click, and further ones only while the ten films stay the same."""
        known = {*visitor.watched, *self._sequence(visitor.user_id)}
        order = [item["item_id"] for item in before]

        def changed() -> list[dict[str, Any]] | None:
            now = self._recommended(visitor.user_id)
            return now if [item["item_id"] for item in now] != order else None

        for film in films_of_another_kind(visitor, known, others)[:CLICKS]:
            accepted = self._send_click(visitor.user_id, film["item_id"])
            while (after := changed()) is None and time.perf_counter() - accepted < CHANGE_LIMIT_S:
                time.sleep(0.002)
            elapsed = time.perf_counter() - accepted
            if after is not None:
                self._terminal.show(screen.change(visitor.user_id, film, before, after, elapsed))
                return
            self._terminal.show(
                f"\nThe click on {film['attributes']['title']} did not change the ten films;"
                " another one:"
            )
        raise DemoError("no click changed the recommendations")

    def _send_click(self, user_id: str, item_id: str) -> float:
        """Send a click through ingestion; return the `time.perf_counter` of its acceptance."""
        now = time.time_ns()
        sent = Click(f"demo-{now}", user_id, item_id, now // 1_000_000)
        click = {
            "userId": user_id,
            "event": "click",
            "messageId": sent.message_id,
            "timestamp": sent.timestamp,
            "properties": {"item_id": item_id},
            "writeKey": self._plan.write_key,
        }
        self._peers["ingestion"].post("/v1/track", click)
        accepted = time.perf_counter()
        self.clicks.append(sent)
        return accepted
