"""What stays on disk, and which manifests are refused."""

from pathlib import Path

from services.serving.state.model_cache import VARIANTS, ModelCache
from slipstream.chassis.client import Peer
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.recommender.bundle import Bundle
from tests.unit.serving.fakes import small_bundle
from tests.unit.serving.state.test_model_holder import a_holder
from tests.unit.serving.state.training_stub import TrainingStub


def test_what_others_keep_in_the_cache_folder_stays(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    cache = tmp_path / "home"
    foreign = [
        cache / "documents" / "letter.txt",
        cache / "incoming" / "post.txt",
        cache / ("a" * 32) / "manifest.json",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    holder = a_holder(training, cache)
    for version in ("1", "2", "3"):
        training.publish(small_bundle(version), version)
        assert holder.refresh()
    assert all(path.read_text() == "mine" for path in foreign)
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 2 + len(foreign)


def test_a_manifest_that_names_a_path_outside_its_folder_is_refused(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    training.publish(bundle, "1")
    manifest = training.directory / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"item_ids.npy"', '"../item_ids.npy"'))
    holder = a_holder(training, tmp_path / "cache")
    assert not holder.refresh()
    assert "outside its folder" in holder.problem


def test_what_another_owner_lists_or_is_about_to_use_stays(
    training: TrainingStub, tmp_path: Path, bundle: Bundle
) -> None:
    peer = Peer("training", "http://training", retries=0, transport=training.transport())
    cache = ModelCache(peer, tmp_path / "cache")
    places = []
    for version in ("1", "2", "3"):
        training.register(small_bundle(version), version)
        place = cache.place(version, VARIANTS)
        cache.bundle(place, VARIANTS, lambda: None)
        cache.discard_incoming(VARIANTS)
        places.append(place)
    listed, claimed, dropped = places

    def present() -> list[bool]:
        return [place.directory.exists() for place in places]

    cache.put_list(CHAMPION, [])
    assert present() == [True, True, True], "all are claimed"
    cache.put_list(VARIANTS, [listed.entry])
    assert present() == [True, False, False]
    cache.bundle(cache.place("2", VARIANTS), VARIANTS, lambda: None)
    cache.put_list(CHAMPION, [])
    assert present() == [True, True, False]
    assert cache.listed(VARIANTS) == [listed.entry] and claimed.directory.exists()
    assert not dropped.directory.exists()
