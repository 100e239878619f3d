"""The demo's steps, in order, all over REST, as any client could."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.chassis.client import Peer, PeerError
from slipstream.datasets.movielens import EVENTS, DatasetError, MovieLens, fetch
from slipstream.datasets.replay import ReplayError, replay
from slipstream_cli.demo import screen
from slipstream_cli.demo.backlog import missing_events
from slipstream_cli.demo.tastes import DemoVisitor, contrasting_visitors, films_of_another_kind
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal

CATCH_UP_LIMIT_S = 120.0
TRAINING_LIMIT_S = 900.0
SWAP_LIMIT_S = 60.0
CHANGE_LIMIT_S = 2.0
CLICKS = 3
SLATE = 10
_SHOWN = ("hit_rate@10", "ndcg@10", "coverage@10")


class DemoError(RuntimeError):
    """A step of the demo failed; the text says which, and where to look."""


class Demo:
    """The demo on a local stack.

    `movielens` is a folder with the data, for machines that can't fetch it.
    """

    def __init__(self, plan: Plan, terminal: Terminal, movielens: Path | None = None) -> None:
        self._plan, self._terminal, self._folder = plan, terminal, movielens
        token = plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN", "")
        self._peers = {
            name: Peer(name, url, token=token, timeout_s=10) for name, url in plan.urls.items()
        }

    def run(self, start: Callable[[], None]) -> None:
        """Run all steps; `start` starts the stack.

        Raises:
            DemoError: A step failed.
        """
        began = time.perf_counter()
        files = self.prepare(start)
        interactions, items = pq.read_table(files.interactions), pq.read_table(files.items)
        visitors = contrasting_visitors(interactions, items)
        with self._explained():
            self._show(visitors, items)
        self._terminal.line(f"\nFrom the start to here: {time.perf_counter() - began:.0f} s")
        self._terminal.show(screen.where_to_look(self._plan, visitors[0].user_id))

    def prepare(self, start: Callable[[], None]) -> MovieLens:
        """Start the stack, send it all events, and wait until serving has a model trained on them.

        Raises:
            DemoError: A step failed.
        """
        with self._explained():
            with self._step("data"):
                files = fetch(_cache(self._plan), self._folder, self._terminal.progress)
            with self._step("services"):
                start()
            self._bring_model(anew=self._bring_events(files))
        return files

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (PeerError, ReplayError, DatasetError, ValueError) as error:
            raise DemoError(
                f"{error}\nThe services' logs are in {self._plan.directory / 'logs'}"
            ) from error

    def _bring_events(self, files: MovieLens) -> bool:
        """Replay the events that are missing, and return whether there were any."""
        interactions = pq.read_table(files.interactions)
        busiest, most = Counter(interactions["user_id"].to_pylist()).most_common(1)[0]
        stored = self._caught_up()["lake"]["interactions"]
        if stored >= EVENTS and self._ratings_of(busiest) >= most:
            self._terminal.line(f"{'events':<12} {EVENTS:,} are stored already")
            return False
        with self._step("replay"), tempfile.TemporaryDirectory() as directory:
            missing = missing_events(interactions, self._ratings_of) if stored else interactions
            pq.write_table(missing, f"{directory}/missing.parquet")
            report = replay(
                f"{directory}/missing.parquet",
                url=self._plan.urls["ingestion"],
                write_key=self._plan.write_key,
                items=files.items,
                progress=self._terminal.bar(),
            )
            if report.accepted != missing.num_rows:
                raise DemoError(
                    f"ingestion accepted {report.accepted:,} of {missing.num_rows:,} events:"
                    f" {report}"
                )
        with self._step("features"):
            self._caught_up()
        return bool(missing.num_rows)

    def _ratings_of(self, user_id: str) -> int:
        try:
            return int(
                self._peers["features"]
                .get(f"/v1/features/visitor/{user_id}")["counts"]
                .get("rate", 0)
            )
        except PeerError as error:
            if error.status == 404:
                return 0
            raise

    def _caught_up(self) -> dict[str, Any]:
        def caught_up() -> dict[str, Any] | None:
            status: dict[str, Any] = self._peers["features"].get("/v1/status")
            self._terminal.progress(
                f"features: {status['applied']:,} applied, {status['lag']:,} to go"
            )
            return status if status["caught_up"] else None

        status: dict[str, Any] = self._until(caught_up, CATCH_UP_LIMIT_S, "features to catch up")
        return status

    def _bring_model(self, anew: bool) -> None:
        version = self._champion()
        if version is None or anew:
            with self._step("training"):
                version = self._train()
        else:
            self._terminal.line(f"{'model':<12} version {version} serves already")
        with self._step("serving"):
            self._until(
                lambda: self._served() == version or None,
                SWAP_LIMIT_S,
                f"serving to load version {version}",
            )

    def _champion(self) -> str | None:
        try:
            return str(self._peers["training"].get("/v1/aliases/champion")["version"])
        except PeerError as error:
            if error.status == 404:
                return None
            raise

    def _served(self) -> str | None:
        try:
            return str(self._peers["serving"].get("/v1/model")["version"])
        except PeerError as error:
            if error.status in (404, 503):
                return None
            raise

    def _train(self) -> str:
        run_id = self._peers["training"].post("/v1/runs", {"trigger": "request", "reason": "demo"})[
            "run_id"
        ]

        def finished() -> dict[str, Any] | None:
            run: dict[str, Any] = self._peers["training"].get(f"/v1/runs/{run_id}")
            self._terminal.progress(
                f"training: {run['stage'] or run['state']} ({run['progress']:.0%})"
            )
            return run if run["state"] not in ("queued", "running") else None

        run = self._until(finished, TRAINING_LIMIT_S, "the training run")
        if run["state"] != "succeeded":
            raise DemoError(f"the training run {run['state']}: {run['error']}")
        champion = self._champion()
        if champion is None:
            raise DemoError(
                f"the gate did not promote version {run['model_version']}: {run['decision_reason']}"
            )
        if champion != run["model_version"]:
            self._terminal.line(
                f"{'model':<12} version {run['model_version']} is not promoted:"
                f" {run['decision_reason']}"
            )
            self._terminal.line(
                f"{'':<12} the gate wants a significant gain, so version {champion} goes on serving"
            )
            return champion
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in run["metrics"].items() if name in _SHOWN
        )
        self._terminal.line(
            f"{'model':<12} version {champion} promoted: {run['decision_reason']} ({shown})"
        )
        return champion

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
        click = {
            "userId": user_id,
            "event": "click",
            "messageId": f"demo-{time.time_ns()}",
            "properties": {"item_id": item_id},
            "writeKey": self._plan.write_key,
        }
        self._peers["ingestion"].post("/v1/track", click)
        return time.perf_counter()

    def _until(
        self, condition: Callable[[], Any], limit_s: float, event: str, pause_s: float = 0.1
    ) -> Any:
        deadline = time.monotonic() + limit_s
        while (value := condition()) is None:
            if time.monotonic() > deadline:
                raise DemoError(f"waited {limit_s:g} s for {event}")
            time.sleep(pause_s)
        return value

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._terminal.progress("")
        self._terminal.line(f"{name:<12} {time.perf_counter() - started:5.1f} s")


def _cache(plan: Plan) -> Path:
    home = plan.environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "slipstream" / "ml-100k"
