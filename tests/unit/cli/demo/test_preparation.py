"""The preparation of a stack against services that answer what a test lets them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from slipstream.chassis.client import PeerError
from slipstream.datasets.imports.sending import ReplayReport
from slipstream.datasets.movielens import EventFiles
from slipstream.models.base import InteractionLog
from slipstream.models.baskets import fit_baskets
from slipstream_cli.demo import preparation
from slipstream_cli.demo.preparation import (
    DemoError,
    Preparation,
    garment_files,
    missing_events,
)
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.terminal import Terminal

RATINGS = {"ada": 3, "bob": 2}


class Services:
    """What the preparation sees: how much features has, who is champion, and what the next training
    run decides.
    """

    files: EventFiles

    def __init__(self) -> None:
        self.stored: dict[str, int] = {}
        self.champion: str | None = None
        self.promotes = True
        self.runs = 0
        self.replayed: list[int] = []

    def get(self, path: str, **_: Any) -> Any:
        if path == "/v1/status":
            rows = sum(self.stored.values())
            return {"applied": rows, "lag": 0, "caught_up": True, "lake": {"interactions": rows}}
        if path.startswith("/v1/features/visitor/"):
            return {"counts": {"rate": self.stored.get(path.rpartition("/")[2], 0)}}
        if path.startswith("/v1/runs/"):
            return {
                "run_id": "r", "trigger": "request", "created_at": 1,
                "stage": "", "progress": 1.0, "state": "succeeded",
                "model_version": f"v{self.runs}",
                "decision_reason": "not surely better", "metrics": {"ndcg@10": 0.1},
            }  # fmt: skip
        if self.champion is None:
            raise PeerError("no model", 404)
        return {"version": self.champion}

    def post(self, path: str, body: Any) -> Any:
        assert (path, body["profile"]) == ("/v1/runs", "best"), body
        self.runs += 1
        if self.promotes:
            self.champion = f"v{self.runs}"
        return {"run_id": "r"}

    def replay(self, path: str, **_: Any) -> ReplayReport:
        sent = pq.read_table(path).num_rows
        self.replayed.append(sent)
        self.stored = dict(RATINGS)
        return ReplayReport(events=sent, accepted=sent)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Services:
    fake = Services()
    users = [user for user, count in RATINGS.items() for _ in range(count)]
    pq.write_table(
        pa.table(
            {
                "user_id": users,
                "event_type": ["rate"] * len(users),
                "timestamp": list(range(len(users))),
            }
        ),
        tmp_path / "interactions.parquet",
    )
    files = EventFiles(tmp_path / "interactions.parquet", tmp_path / "items.parquet")
    fake.files = files
    monkeypatch.setattr(preparation, "Peer", lambda *_, **__: fake)
    monkeypatch.setattr(preparation, "replay", fake.replay)
    return fake


@pytest.fixture
def prepare(services: Services, tmp_path: Path) -> Callable[[], str]:
    """Prepares the demo, and gives what it said."""

    def run() -> str:
        said = io.StringIO()
        plan = make_plan(tmp_path, {}, any_ports=True)
        Preparation(plan, Terminal(said), lambda: services.files, "best").run(lambda: None)
        return said.getvalue()

    return run


def test_a_first_demo_sends_all_and_trains(services: Services, prepare: Callable[[], str]) -> None:
    assert "version v1 promoted" in prepare()
    assert (services.replayed, services.runs) == ([5], 1)


def test_a_second_demo_neither_sends_nor_trains(
    services: Services, prepare: Callable[[], str]
) -> None:
    services.stored, services.champion = dict(RATINGS), "v0"
    said = prepare()
    assert "5 are stored already" in said and "version v0 serves already" in said
    assert (services.replayed, services.runs) == ([], 0)


def test_a_demo_that_was_interrupted_sends_what_is_missing(
    services: Services, prepare: Callable[[], str]
) -> None:
    services.stored = {"ada": 2}
    prepare()
    assert (services.replayed, services.runs) == ([3], 1)


def test_a_refusal_by_the_gate_is_told_and_the_champion_goes_on(
    services: Services, prepare: Callable[[], str]
) -> None:
    services.champion, services.promotes = "v0", False
    said = " ".join(prepare().split())
    assert "version v1 is not promoted: not surely better" in said
    assert "so version v0 goes on serving" in said


def test_a_refusal_without_a_champion_ends_the_demo(
    services: Services, prepare: Callable[[], str]
) -> None:
    services.promotes = False
    with pytest.raises(DemoError, match="the gate did not promote version v1: not surely better"):
        prepare()


class Placements:
    """Monitoring that has `kept` placements, and serving that knows them when it is asked again."""

    def __init__(self, *kept: str) -> None:
        self.kept, self.known, self.put_bodies = set(kept), set[str](), list[Any]()

    def get(self, path: str) -> Any:
        if path.removeprefix("/v1/placements/") not in self.kept:
            raise PeerError("no placement", 404)
        return {}

    def put(self, path: str, body: Any) -> None:
        self.kept.add(path.removeprefix("/v1/placements/"))
        self.put_bodies.append(body)

    def post(self, _: str, body: Any) -> Any:
        if body["placement"] not in self.known:
            self.known |= self.kept
            raise PeerError("there is no placement", 422)
        return {"lists": []}


@pytest.mark.parametrize(("kept", "put_bodies"), [((), [{}]), (("home",), [])])
def test_a_placement_is_taken_or_made_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: tuple[str, ...], put_bodies: list[Any]
) -> None:
    placements = Placements(*kept)
    monkeypatch.setattr(preparation, "Peer", lambda *_, **__: placements)
    plan = make_plan(tmp_path, {}, any_ports=True)
    Preparation(plan, Terminal(io.StringIO()), lambda: None).take_placement("home")  # type: ignore[arg-type, return-value]
    assert placements.put_bodies == put_bodies and placements.known == {"home"}


EVENTS = pa.table(
    {"user_id": ["a", "b", "a", "a"], "item_id": ["3", "1", "1", "2"], "timestamp": [30, 5, 10, 20]}
)


def test_missing_events_are_the_last_of_each_visitor() -> None:
    missing = missing_events(EVENTS, {"a": 2, "b": 0}.__getitem__)
    assert list(
        zip(missing["user_id"].to_pylist(), missing["timestamp"].to_pylist(), strict=True)
    ) == [("b", 5), ("a", 30)]


def test_missing_events_are_none_when_all_are_stored() -> None:
    assert missing_events(EVENTS, {"a": 3, "b": 9}.__getitem__).num_rows == 0
    assert missing_events(EVENTS, lambda _: 0).num_rows == 4


def test_garments_are_bought_together_with_others_than_similar_ones(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, {}, any_ports=True)
    files = garment_files(plan, Terminal(io.StringIO()))
    events, items = pq.read_table(files.interactions), pq.read_table(files.items)
    user = np.unique(events["user_id"].to_numpy(), return_inverse=True)[1].astype(np.int32)
    item = pc.index_in(events["item_id"], items["item_id"]).to_numpy()
    carted = pc.not_equal(events["event_type"], "view").to_numpy()
    weight = np.ones(len(item), np.float32)
    log = InteractionLog(
        *(user, item, events["timestamp"].to_numpy(), weight, items.num_rows), basket=carted
    )
    found = fit_baskets(log)
    assert found is not None
    companions = np.diff(found.indptr)
    assert (companions[item] > 0).mean() > 0.7, "what visitors look at has companions"
    category = np.array([path[1] for path in items["categories"].to_pylist()])
    alike = np.repeat(category, companions) == category[found.indices]
    assert alike.mean() < 0.1
