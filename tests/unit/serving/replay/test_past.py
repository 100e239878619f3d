"""Catalogues and models of past slates: kept where they fit again, fetched where not."""

from pathlib import Path

import httpx
import orjson
import pytest

from services.serving.replay.past import PastCatalogs, PastModels
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.circumstances import FORM, Circumstances
from slipstream.slates.catalogue.model import Model
from tests.unit.serving.fakes import model, small_bundle
from tests.unit.serving.state.training_stub import TrainingStub

EXPIRES = 5_000


def at(now: int, end: int = 1) -> Circumstances:
    return Circumstances(form=FORM, now=now, catalog={"log": [end]})


def past_catalogs(folder: Path, **attributes: int) -> tuple[PastCatalogs, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        record = {"entity": "item", "entity_id": "a", "timestamp": 1, "attributes": attributes}
        return httpx.Response(200, content=orjson.dumps(["log:0", 0, record]) + b"\n")

    peer = Peer("features", "http://features", transport=httpx.MockTransport(answer))
    return PastCatalogs(peer, folder), asked


def test_slates_of_the_same_records_share_a_catalogue(tmp_path: Path) -> None:
    catalogs, asked = past_catalogs(tmp_path)
    first = catalogs.of("r1", at(10))
    assert catalogs.of("r2", at(5)) is first
    assert catalogs.of("r3", at(5, end=2)) is not first
    assert asked == ["/v1/slates/r1/catalog", "/v1/slates/r3/catalog"]
    assert not list(tmp_path.iterdir()), "no file is left"


def test_an_item_expires_by_the_time_of_the_slate_forwards_and_backwards(tmp_path: Path) -> None:
    catalogs, asked = past_catalogs(tmp_path, expires_at=EXPIRES)
    assert catalogs.of("r1", at(EXPIRES - 1)).shown("a")
    assert not catalogs.of("r2", at(EXPIRES)).shown("a")
    assert len(asked) == 1
    assert catalogs.of("r3", at(EXPIRES - 1)).shown("a")
    assert len(asked) == 2


@pytest.fixture
def training(tmp_path: Path) -> TrainingStub:
    stub = TrainingStub(tmp_path / "training")
    for version in ("1", "2", "3"):
        stub.publish(small_bundle(version), version)
    return stub


def past_models(training: TrainingStub, folder: Path, *in_service: Model | None) -> PastModels:
    peer = Peer("training", "http://training", retries=0, transport=training.transport())
    return PastModels(peer, lambda: in_service, folder)


def test_models_in_service_are_not_fetched_and_another_one_is_once(
    training: TrainingStub, tmp_path: Path
) -> None:
    current = model(small_bundle("3"), "3")
    models = past_models(training, tmp_path / "replay", current, None)
    assert models.of("3") is current
    assert not training.downloads
    first = models.of("1")
    assert first.bundle.manifest.version == "1"
    downloads = len(training.downloads)
    assert models.of("1") is first
    assert len(training.downloads) == downloads
    # One at a time: the next one takes its place, on the disk, too.
    assert models.of("2").bundle.manifest.version == "2"
    assert models.of("1") is not first
    models.release()
    assert not (tmp_path / "replay").exists()


def test_a_version_without_files_and_a_training_that_is_away_are_told_apart(
    training: TrainingStub, tmp_path: Path
) -> None:
    models = past_models(training, tmp_path / "replay")
    training.gone = {"2"}
    with pytest.raises(ConflictError, match="no files of model 2"):
        models.of("2")
    training.away = True
    with pytest.raises(PeerError):
        models.of("1")
    training.away = False
    assert models.of("1").version == "1"
