import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.serving.metrics import ServingMetrics
from services.serving.model_holder import Model, ModelHolder
from slipstream.chassis.client import Peer
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.training_stub import TrainingStub


@pytest.fixture
def training(tmp_path: Path) -> TrainingStub:
    return TrainingStub(tmp_path / "training")


def a_holder(training: TrainingStub, cache: Path, **options: object) -> ModelHolder:
    peer = Peer("training", "http://training", retries=0, transport=training.transport())
    return ModelHolder(peer, cache, ServingMetrics(CollectorRegistry()), **options)  # type: ignore[arg-type]


def versions(holder: ModelHolder) -> tuple[str | None, str | None]:
    return tuple(model.version if model else None for model in (holder.current, holder.previous))  # type: ignore[return-value]


def test_no_champion_yet_leaves_no_model_and_says_so(training: TrainingStub, tmp_path: Path) -> None:
    holder = a_holder(training, tmp_path / "cache")
    assert not holder.refresh()
    assert holder.current is None
    assert holder.problem == "training has no champion yet"


def test_a_new_champion_takes_over_and_the_one_before_is_kept(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    assert holder.refresh()
    training.publish(small_bundle("2"), "2")
    assert holder.refresh()
    assert versions(holder) == ("2", "1")


def test_a_champion_that_did_not_change_is_not_downloaded_again(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    present = holder.current
    training.downloads.clear()
    assert holder.refresh()
    assert holder.current is present
    assert training.downloads == ["manifest.json"]


def test_a_rollback_needs_no_download(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    holder.refresh()
    training.champion = "1"
    training.downloads.clear()
    assert holder.refresh()
    assert versions(holder) == ("1", "2")
    assert training.downloads == ["manifest.json"]


def test_a_damaged_download_leaves_the_present_model_and_heals(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    training.spoiled = "recommender.json"
    assert not holder.refresh()
    assert versions(holder) == ("1", None)
    assert "recommender.json" in holder.problem
    training.spoiled = ""
    assert holder.refresh()
    assert versions(holder) == ("2", "1")
    assert holder.problem == ""


def test_a_model_that_fails_to_warm_up_does_not_take_over(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    def refuse_second(model: Model) -> None:
        if model.version == "2":
            raise ValueError("nothing to recommend")

    holder = a_holder(training, tmp_path / "cache", warm_up=refuse_second)
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    assert not holder.refresh()
    assert versions(holder) == ("1", None)


def test_restart_with_training_away_serves_the_cached_champion(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    training.publish(bundle, "1")
    a_holder(training, tmp_path / "cache").refresh()
    training.away = True
    restarted = a_holder(training, tmp_path / "cache")
    assert restarted.restore()
    assert not restarted.refresh()
    assert versions(restarted) == ("1", None)


def test_restart_with_a_damaged_cache_serves_the_newest_good_one(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    training.publish(bundle, "1")
    holder.refresh()
    training.publish(small_bundle("2"), "2")
    holder.refresh()
    assert holder.current is not None
    (holder.current.directory / "recommender.json").write_text("{}")
    restarted = a_holder(training, tmp_path / "cache")
    assert restarted.restore()
    assert versions(restarted) == ("1", None)
    assert restarted.refresh()
    assert versions(restarted) == ("2", "1")


def test_a_version_with_other_content_is_another_model(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
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


def test_only_the_present_and_the_previous_bundle_stay_on_disk(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    holder = a_holder(training, tmp_path / "cache")
    for version in ("1", "2", "3"):
        training.publish(small_bundle(version), version)
        holder.refresh()
    assert holder.current is not None
    assert holder.previous is not None
    folders = {path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert folders == {holder.current.directory.name, holder.previous.directory.name}


def test_a_manifest_that_names_a_path_outside_its_folder_is_refused(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    manifest = training.directory / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"item_ids.npy"', '"../item_ids.npy"'))
    holder = a_holder(training, tmp_path / "cache")
    assert not holder.refresh()
    assert "outside its folder" in holder.problem


def test_following_the_alias_heals_a_lost_event(training: TrainingStub, tmp_path: Path, bundle: Bundle) -> None:
    taken, stop = threading.Event(), threading.Event()
    holder = a_holder(training, tmp_path / "cache", warm_up=lambda _: taken.set())
    follower = threading.Thread(target=holder.follow_alias, args=(stop, 0.05))
    follower.start()
    try:
        training.publish(bundle, "1")
        assert taken.wait(10)
    finally:
        stop.set()
        follower.join(5)
    assert versions(holder) == ("1", None)
