"""Preparation of a stack: events replayed, a model trained on them and in service.

All over REST, as any client could.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from slipstream.chassis.client import Peer, PeerError
from slipstream.contracts.rest import Run
from slipstream.contracts.times import DAY_MS, now_ms
from slipstream.datasets.living_shop import Habits
from slipstream.datasets.movielens import DatasetError, EventFiles, fetch
from slipstream.datasets.replay import replay
from slipstream.datasets.simulator import Simulation, simulate
from slipstream.datasets.upload import ReplayError
from slipstream_cli.local.plan import Plan
from slipstream_cli.local.terminal import Terminal


def missing_events(interactions: pa.Table, stored: Callable[[str], int]) -> pa.Table:
    """Select the events that a replay, which sends each visitor's in order, has still to send.

    Returns:
        The events by time, without the first `stored(user_id)` of each visitor.
    """
    ordered = interactions.sort_by("timestamp")
    user_ids = ordered["user_id"].to_pylist()
    sent = {user_id: stored(user_id) for user_id in sorted(set(user_ids))}
    passed: Counter[str] = Counter()
    kept = []
    for user_id in user_ids:
        kept.append(passed[user_id] >= sent[user_id])
        passed[user_id] += 1
    return ordered.filter(pa.array(kept))


CATCH_UP_LIMIT_S = 120.0
TRAINING_LIMIT_S = 900.0
SWAP_LIMIT_S = 60.0
_SHOWN = ("hit_rate@10", "ndcg@10", "coverage@10")


class DemoError(RuntimeError):
    """A step of the demo failed; the text says which, and where to look."""


class Preparation:
    """The filling of a local stack with a file of events, and the training of a model on it.

    Args:
        profile: Effort of training, `fast` or `best`.
    """

    def __init__(
        self,
        plan: Plan,
        terminal: Terminal,
        files: Callable[[], EventFiles],
        profile: str = "fast",
    ) -> None:
        self._plan, self._terminal, self._files, self._profile = plan, terminal, files, profile
        token = plan.environment.get("SLIPSTREAM_HTTP__API_TOKEN", "")
        self.peers = {
            name: Peer(name, url, token=token, timeout_s=10) for name, url in plan.urls.items()
        }

    def run(self, start: Callable[[], None]) -> EventFiles:
        """Start the stack, send it all events, and wait until serving has a model trained on them.

        Raises:
            DemoError: A step failed.
        """
        with self.explained():
            with self._step("data"):
                files = self._files()
            with self._step("services"):
                start()
            self._bring_model(train=self._bring_events(files))
        return files

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Within the block, failures of services and data are `DemoError`s."""
        try:
            yield
        except (PeerError, ReplayError, DatasetError, ValueError) as error:
            raise DemoError(
                f"{error}\nThe services' logs are in {self._plan.directory / 'logs'}"
            ) from error

    def _bring_events(self, files: EventFiles) -> bool:
        """Replay the events that are missing, and return whether there were any."""
        interactions = pq.read_table(files.interactions)
        busiest, most = Counter(interactions["user_id"].to_pylist()).most_common(1)[0]
        # Shoppers, and whoever clicked in an earlier demo, have sent events, too.
        types = interactions["event_type"].unique().to_pylist()
        stored_of = partial(self._stored_of, types)
        stored = self._caught_up()["lake"]["interactions"]
        if stored >= interactions.num_rows and stored_of(busiest) >= most:
            self._terminal.line(f"{'events':<12} {interactions.num_rows:,} are stored already")
            return False
        with self._step("replay"), tempfile.TemporaryDirectory() as directory:
            missing = missing_events(interactions, stored_of) if stored else interactions
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

    def _stored_of(self, types: Sequence[str], user_id: str) -> int:
        """The number of a visitor's events of these types that are stored."""
        path = f"/v1/features/visitor/{user_id}"
        answer = _unless({404}, lambda: self.peers["features"].get(path)) or {"counts": {}}
        return sum(int(answer["counts"].get(name, 0)) for name in types)

    def _caught_up(self) -> dict[str, Any]:
        def caught_up() -> dict[str, Any] | None:
            status: dict[str, Any] = self.peers["features"].get("/v1/status")
            self._terminal.progress(
                f"features: {status['applied']:,} applied, {status['lag']:,} to go"
            )
            return status if status["caught_up"] else None

        status: dict[str, Any] = self._until(caught_up, CATCH_UP_LIMIT_S, "features to catch up")
        return status

    def _bring_model(self, train: bool) -> None:
        version = self._champion()
        if version is None or train:
            with self._step("training"):
                version = self._first_champion()
        else:
            self._terminal.line(f"{'model':<12} version {version} serves already")
        with self._step("serving"):
            self._until(
                lambda: self._served() == version or None,
                SWAP_LIMIT_S,
                f"serving to load version {version}",
            )

    def _champion(self) -> str | None:
        answer = _unless({404}, lambda: self.peers["training"].get("/v1/aliases/champion"))
        return str(answer["version"]) if answer else None

    def _served(self) -> str | None:
        answer = _unless({404, 503}, lambda: self.peers["serving"].get("/v1/model"))
        return str(answer["version"]) if answer else None

    def train(self, reason: str) -> Run:
        """Train on what the stack has, and return the run that has succeeded.

        Raises:
            DemoError: It has not.
        """
        body = {"trigger": "request", "reason": reason, "profile": self._profile}
        run_id = self.peers["training"].post("/v1/runs", body)["run_id"]

        def finished() -> Run | None:
            run = Run.model_validate(self.peers["training"].get(f"/v1/runs/{run_id}"))
            self._terminal.progress(f"training: {run.stage or run.state} ({run.progress:.0%})")
            return run if run.state not in ("queued", "running") else None

        run: Run = self._until(finished, TRAINING_LIMIT_S, "the training run")
        if run.state != "succeeded":
            raise DemoError(f"the training run {run.state}: {run.error}")
        return run

    def take_placement(self, name: str) -> None:
        """Wait until serving has the placement, which is made without rules if there is none.

        Raises:
            PeerError: The name is no placement's, or a service does not answer.
        """
        path = f"/v1/placements/{quote(name, safe='')}"
        monitoring, serving = self.peers["monitoring"], self.peers["serving"]
        if _unless({404}, partial(monitoring.get, path)) is None:
            monitoring.put(path, {})
        batch = {"user_ids": ["demo"], "n": 1, "placement": name}
        known = partial(_unless, {422}, partial(serving.post, "/v1/recommendations:batch", batch))
        self._until(known, SWAP_LIMIT_S, f"serving to have the placement {name}")

    def _first_champion(self) -> str:
        run = self.train("demo")
        champion = self._champion()
        if champion is None:
            raise DemoError(
                f"the gate did not promote version {run.model_version}: {run.decision_reason}"
            )
        if champion != run.model_version:
            self._terminal.line(
                f"{'model':<12} version {run.model_version} is not promoted: {run.decision_reason}"
            )
            self._terminal.line(
                f"{'':<12} the gate wants a significant gain, so version {champion} goes on serving"
            )
            return champion
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in run.metrics.items() if name in _SHOWN
        )
        self._terminal.line(
            f"{'model':<12} version {champion} promoted: {run.decision_reason} ({shown})"
        )
        return champion

    def _until(self, condition: Callable[[], Any], limit_s: float, event: str) -> Any:
        deadline = time.monotonic() + limit_s
        while (value := condition()) is None:
            if time.monotonic() > deadline:
                raise DemoError(f"waited {limit_s:g} s for {event}")
            time.sleep(0.1)
        return value

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._terminal.progress("")
        self._terminal.line(f"{name:<12} {time.perf_counter() - started:5.1f} s")


def _unless(refused: Container[int], ask: Callable[[], Any]) -> Any:
    """The answer; None where its status is one of `refused`."""
    try:
        return ask()
    except PeerError as error:
        if error.status not in refused:
            raise
        return None


def movielens_files(plan: Plan, terminal: Terminal, folder: Path | None = None) -> EventFiles:
    """Bring MovieLens-100K into the user's cache, from `folder` on machines that can't fetch it.

    Raises:
        DatasetError: No source has the data.
    """
    home = plan.environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return fetch(Path(home) / "slipstream" / "ml-100k", folder, terminal.progress)


# Size of the shop of garments: enough for a model, and for two minutes.
_VISITORS, _GARMENTS, _EVENTS, _DAYS = 800, 576, 40_000, 60
# Its visitors buy together what they seldom look at together: other garments than similar ones.
_HABITS, _TOGETHER = Habits(cart=0.2), 0.9


def garment_files(plan: Plan, terminal: Terminal) -> EventFiles:
    """Simulate a shop of garments up to the day before the first demo; later ones find its files.

    Raises:
        ValueError: One of the files is missing.
    """
    folder = plan.directory / "garments"
    files = EventFiles(folder / "interactions.parquet", folder / "items.parquet")
    if not (files.interactions.exists() and files.items.exists()):
        today = now_ms() // DAY_MS * DAY_MS
        start = today - (_DAYS + 1) * DAY_MS
        shop = Simulation(
            *(_VISITORS, _GARMENTS, _EVENTS),
            days=_DAYS,
            start=start,
            garments=True,
            habits=_HABITS,
            together=_TOGETHER,
        )
        try:
            simulate(folder, shop, terminal.bar())
        except FileExistsError as error:
            raise ValueError(str(error)) from error
    return files
