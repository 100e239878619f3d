"""The models that serving holds: taken from training or a cache, replaced, deleted."""

import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from kafka import TopicPartition
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.state import model_holder
from services.serving.state.model_cache import ModelCache
from services.serving.state.model_holder import ModelHolder
from slipstream.broker.log_changes import LogFault
from slipstream.broker.records import Batch, MalformedMessage, Message
from slipstream.broker.standing import Standing
from slipstream.broker.watch import ConsumerWatch
from slipstream.chassis.client import Peer
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.events import ModelEvent, ModelEventType
from slipstream.contracts.positions import Source
from slipstream.recommender.bundle import Bundle
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.state.training_stub import TrainingStub
from tests.waiting import until

EVENTS = Source("model-events.v1", "t", 0)


class Heard:
    """A consumer of `model-events.v1` that gives one batch, then nothing until it is stopped."""

    def __init__(self, batch: Batch) -> None:
        self.batches = [batch]
        self.read = threading.Event()
        self.membership = None
        self.polls = 0

    def poll(self, timeout_s: float) -> Batch:
        if self.batches:
            return self.batches.pop()
        self.read.set()
        threading.Event().wait(0.01)
        return Batch()

    def faults(self) -> list[LogFault]:
        return []

    def commit(self, next_offsets: object) -> bool:
        return True

    def standing(self) -> Standing:
        return Standing({TopicPartition(EVENTS.topic, 0): (0, 3)}, {EVENTS.topic: 3})

    def close(self) -> None:
        pass


def a_holder(training: TrainingStub, cache: Path, **options: object) -> ModelHolder:
    peer = Peer("training", "http://training", retries=0, transport=training.transport())
    return ModelHolder(
        peer, ModelCache(peer, cache), ServingMetrics(CollectorRegistry()), **options
    )  # type: ignore[arg-type]


@pytest.fixture
def holder(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> ModelHolder:
    """A holder with the champion 1."""
    made = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    assert made.refresh()
    return made


def versions(holder: ModelHolder) -> tuple[str | None, str | None]:
    return tuple(model.version if model else None for model in (holder.current, holder.previous))  # type: ignore[return-value]


def test_a_new_champion_takes_over_and_the_one_before_is_kept(
    holder: ModelHolder, training: TrainingStub
) -> None:
    training.publish(small_bundle("2"), "2")
    assert holder.refresh()
    assert versions(holder) == ("2", "1")


def test_the_one_before_the_present_one_goes_before_a_third_is_loaded(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    in_memory: list[list[str]] = []

    def note(model: Model) -> None:
        in_memory.append([*filter(None, versions(holder)), model.version])

    holder = a_holder(training, tmp_path / "cache", warm_up=note)
    for version in ("1", "2", "3"):
        training.publish(bundle, version)
        assert holder.refresh()
    assert in_memory == [["1"], ["1", "2"], ["2", "3"]]
    assert versions(holder) == ("3", "2")


def test_a_champion_that_did_not_change_is_not_downloaded_again(
    holder: ModelHolder, training: TrainingStub
) -> None:
    present = holder.current
    training.downloads.clear()
    assert holder.refresh()
    assert holder.current is present
    assert training.downloads == ["manifest.json"]


def test_a_rollback_needs_no_download(holder: ModelHolder, training: TrainingStub) -> None:
    training.publish(small_bundle("2"), "2")
    holder.refresh()
    training.champion = "1"
    training.downloads.clear()
    assert holder.refresh()
    assert versions(holder) == ("1", "2")
    assert training.downloads == ["manifest.json"]


def test_a_damaged_download_leaves_the_present_model_and_heals(
    holder: ModelHolder, training: TrainingStub
) -> None:
    training.publish(small_bundle("2"), "2")
    training.spoiled = "recommender.json"
    assert not holder.refresh()
    assert versions(holder) == ("1", None)
    assert "recommender.json" in holder.problem
    training.spoiled = ""
    assert holder.refresh()
    assert versions(holder) == ("2", "1")
    assert holder.problem == ""


def test_a_model_that_fails_to_warm_up_does_not_take_over(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    def refuse_second(model: Model) -> None:
        if model.version == "2":
            raise ValueError("nothing to recommend")

    holder = a_holder(training, tmp_path / "cache", warm_up=refuse_second)
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    assert not holder.refresh()
    assert versions(holder) == ("1", None)


def test_restart_with_a_damaged_cache_serves_the_newest_good_one(
    holder: ModelHolder, training: TrainingStub, tmp_path: Path
) -> None:
    training.publish(small_bundle("2"), "2")
    holder.refresh()
    assert holder.current is not None
    (holder.current.directory / "recommender.json").write_text("{}")
    restarted = a_holder(training, tmp_path / "cache")
    assert restarted.restore()
    assert versions(restarted) == ("1", None)
    assert restarted.refresh()
    assert versions(restarted) == ("2", "1")


def test_a_version_with_other_content_is_another_model(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    cache = tmp_path / "cache"
    training.publish(bundle, "1")
    a_holder(training, cache).refresh()
    anew = TrainingStub(tmp_path / "training-from-nothing")
    anew.publish(small_bundle("1", repeats=True), "1")
    restarted = a_holder(anew, cache)
    restarted.restore()
    assert restarted.refresh()
    assert restarted.current is not None
    assert restarted.current.bundle.repeats


def test_following_the_alias_heals_a_lost_event(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    taken, stop = threading.Event(), threading.Event()
    holder = a_holder(training, tmp_path / "cache", warm_up=lambda _: taken.set())
    follower = threading.Thread(target=holder.follow_alias, args=(stop, 0.05))
    follower.start()
    try:
        training.publish(bundle, "1")
        assert taken.wait(60)
    finally:
        stop.set()
        follower.join(60)
    assert versions(holder) == ("1", None)


@pytest.mark.parametrize(("rid", "asked_with"), [("r-7", "r-7"), ("no header: \u00fc", None)])
def test_an_event_has_the_champion_fetched_for_its_request_and_bad_records_are_counted(
    training: TrainingStub, tmp_path: Path, bundle: Bundle, rid: str, asked_with: str | None
) -> None:
    asked: list[str | None] = []
    metrics, stop, taken = Metrics("serving"), threading.Event(), threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/aliases/champion":
            asked.append(request.headers.get("x-request-id"))
        status, body = training.answer(request.url.path)
        return httpx.Response(status, content=body)

    peer = Peer("training", "http://training", retries=0, transport=httpx.MockTransport(answer))
    cache = ModelCache(peer, tmp_path / "cache")
    holder = ModelHolder(peer, cache, ServingMetrics(CollectorRegistry()), lambda _: taken.set())
    champion = ModelEvent(event=ModelEventType.PROMOTED, version="1", alias="champion", timestamp=1)
    heard = Heard(
        Batch(
            [Message(EVENTS, 0, "m", champion, rid)],
            [MalformedMessage(EVENTS, 1, b"{", "not JSON", "")],
        )
    )
    alias = threading.Thread(target=holder.follow_alias, args=(stop, 600))
    alias.start()
    events = threading.Thread(
        target=holder.follow_events, args=(heard, stop, ConsumerWatch(metrics))
    )
    try:
        # The first look found no champion, and the next is ten minutes away.
        while not holder.problem:
            assert not stop.wait(0.01)
        training.publish(bundle, "1")
        events.start()
        assert taken.wait(60)
        assert heard.read.wait(60)
    finally:
        stop.set()
        alias.join(60)
        events.join(60)
    assert asked == [None, asked_with]
    names = ("consumed_records_total", "malformed_records_total", "consumer_lag_records")
    assert [
        metrics.registry.get_sample_value(f"slipstream_{name}", {"topic": EVENTS.topic})
        for name in names
    ] == [1, 1, 3]


def bundles(cache: Path) -> int:
    return sum(path.is_dir() for path in cache.iterdir())


def test_a_deleted_model_leaves_memory_and_disk_once_its_successor_is_in_service(
    holder: ModelHolder, training: TrainingStub, tmp_path: Path
) -> None:
    training.publish(small_bundle("2"), "2")
    training.deleted = {"1"}
    assert holder.refresh()
    assert (versions(holder), bundles(tmp_path / "cache")) == (("2", None), 1)


def test_without_a_champion_only_a_deleted_model_is_let_go(
    holder: ModelHolder, training: TrainingStub, tmp_path: Path
) -> None:
    training.champion = None
    assert not holder.refresh()
    assert versions(holder) == ("1", None), "a registry that was lost takes no model"
    training.deleted = {"1"}
    assert not holder.refresh()
    assert (versions(holder), bundles(tmp_path / "cache")) == ((None, None), 0)
    assert not a_holder(training, tmp_path / "cache").restore()


def test_a_deletion_is_heard_at_once(training: TrainingStub, tmp_path: Path) -> None:
    moved: list[str] = []
    holder = a_holder(training, tmp_path / "cache", moved=moved.append)
    deleted = ModelEvent(event=ModelEventType.DELETED, version="7", timestamp=1)
    holder._on_events(
        Batch([Message(Source("model-events.v1", "t", 0), 0, "recommender", deleted, "")])
    )
    assert holder._wake.is_set() and moved == ["7"]


def test_a_follower_takes_what_the_leader_has_fetched_and_goes_back_with_it(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "_FOLLOW_S", 0.01)
    monkeypatch.setattr(model_holder, "_UNSETTLED_S", 0.01)
    training = TrainingStub(tmp_path / "training")
    leader, follower = (a_holder(training, tmp_path / "cache") for _ in range(2))
    stop = threading.Event()
    following = threading.Thread(target=follower.follow_cache, args=(stop,))
    following.start()
    try:
        # Training says that there is no champion: the follower is ready without one.
        until(lambda: follower._settled)
        training.publish(bundle, "1")
        leader.refresh()
        until(lambda: versions(follower) == ("1", None))
        training.publish(
            replace(bundle, manifest=bundle.manifest.model_copy(update={"version": "2"})), "2"
        )
        leader.refresh()
        until(lambda: versions(follower) == ("2", "1"))
        first = follower.previous
        training.champion = "1"
        training.downloads.clear()
        leader.refresh()
        until(lambda: versions(follower) == ("1", "2"))
        assert follower.current is first, "the model at hand is not loaded again"
        assert training.downloads == ["manifest.json"], "only the leader asks for files"
        training.deleted = {"2"}
        leader.refresh()
        until(lambda: versions(follower) == ("1", None))
        training.champion, training.deleted = None, {"1", "2"}
        leader.refresh()
        until(lambda: versions(follower) == (None, None))
    finally:
        stop.set()
        following.join(60)


async def is_ready(holder: ModelHolder) -> bool:
    try:
        await holder.check()
    except RuntimeError:
        return False
    return True


async def test_ready_once_the_champion_is_in_service(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    holder = a_holder(training, tmp_path / "cache")
    assert not await is_ready(holder)
    holder.refresh()
    assert await is_ready(holder)


async def test_ready_where_training_says_that_there_is_no_champion(
    training: TrainingStub, tmp_path: Path
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    assert not holder.refresh()
    assert await is_ready(holder) and holder.current is None
    assert holder.problem == "training has no champion yet"


async def test_ready_with_the_bundle_of_the_cache_while_training_is_away(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    a_holder(training, tmp_path / "cache").refresh()
    training.away = True
    restarted = a_holder(training, tmp_path / "cache")
    assert restarted.restore() and await is_ready(restarted)
    assert not restarted.refresh() and versions(restarted) == ("1", None)


async def test_not_ready_without_a_bundle_while_training_is_away_unless_settings_say_so(
    training: TrainingStub, tmp_path: Path
) -> None:
    training.away = True
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    with pytest.raises(RuntimeError, match="can't be reached"):
        await holder.check()
    assert await is_ready(a_holder(training, tmp_path / "cache", required=False))


@pytest.mark.parametrize(("wait_s", "ready"), [(1e-9, True), (600.0, False), (0.0, False)])
async def test_without_training_it_is_unready_for_as_long_as_it_may_wait(
    training: TrainingStub, tmp_path: Path, bundle: Bundle, wait_s: float, ready: bool
) -> None:
    training.publish(bundle, "1")
    training.away = True
    holder = a_holder(training, tmp_path / "cache", wait_s=wait_s)
    with pytest.raises(RuntimeError, match="being fetched"):  # nothing has failed yet
        await holder.check()
    assert not holder.refresh()
    if ready:
        await holder.check()
    else:
        with pytest.raises(RuntimeError, match="can't be reached"):
            await holder.check()
    assert holder.current is None
    training.away = False
    assert holder.refresh()
    await holder.check()
    assert versions(holder) == ("1", None)


async def test_not_ready_with_a_champion_that_can_not_be_loaded(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    training.spoiled = "recommender.json"
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    with pytest.raises(RuntimeError, match=r"recommender\.json"):
        await holder.check()


async def test_ready_service_stays_ready_when_training_goes_away(
    training: TrainingStub, tmp_path: Path
) -> None:
    holder = a_holder(training, tmp_path / "cache")
    holder.refresh()
    training.away = True
    holder.refresh()
    assert await is_ready(holder)


async def test_training_that_comes_late_is_asked_again_at_once_and_not_after_the_poll(
    training: TrainingStub, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_holder, "_UNSETTLED_S", 0.0)
    training.publish(bundle, "1")
    training.away = True
    taken, stop = threading.Event(), threading.Event()
    holder = a_holder(training, tmp_path / "cache", warm_up=lambda _: taken.set())
    follower = threading.Thread(target=holder.follow_alias, args=(stop, 600))
    follower.start()
    try:
        while not holder.problem:
            assert not stop.wait(0.01)
        training.away = False
        assert taken.wait(60)
    finally:
        stop.set()
        follower.join(60)
