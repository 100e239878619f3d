import json
from pathlib import Path

import pytest

from services.training.run.exchange import Exchange, RunFiles
from services.training.run.job import Job
from services.training.settings import TrainingSection
from slipstream.chassis.settings import LakeSettings
from slipstream.stores.object_store import ObjectStore
from tests.unit.training.jobs import job_of
from tests.unit.training.run_queue import RESULT

LAKE = LakeSettings(uri="/here/lake", storage_options={"AWS_SECRET_ACCESS_KEY": "ours"})


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    return Exchange(ObjectStore(str(tmp_path / "exchange")))


def job(tmp_path: Path, version: str = "v1", **more: object) -> Job:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    there = LakeSettings(uri="/there/lake", storage_options={"AWS_SECRET_ACCESS_KEY": "s3cret"})
    section = TrainingSection(tracking_uri="postgresql://u:s3cret@db/mlflow")
    usual = {"version": version, "lake": there, "training": section, "checkpoints": checkpoints}
    return job_of(tmp_path, **usual | more)


def received(files: RunFiles, place: Path) -> Job:
    handed = files.handed()
    assert handed is not None
    place.mkdir()
    return files.receive(handed.job, place, LAKE)


def test_run_receives_its_job_with_champion_and_checkpoints_and_the_lake_of_its_machine(
    exchange: Exchange, tmp_path: Path
) -> None:
    champion, files = tmp_path / "champion", exchange.of("v1")
    champion.mkdir()
    (champion / "manifest.json").write_text("{}")
    handed = job(tmp_path, champion=champion, champion_version="v0", lake_version=7)
    (handed.checkpoints / "network.pt").write_text("epoch 3")
    files.hand_over(handed, "r-1")
    got = received(files, tmp_path / "place")
    assert got.champion is not None
    assert (got.champion / "manifest.json").read_text() == "{}"
    assert (got.checkpoints / "network.pt").read_text() == "epoch 3"
    assert (got.lake, got.lake_version, got.champion_version) == (LAKE, 7, "v0")
    assert got.output.parent == tmp_path / "place"


def test_run_on_the_machine_of_the_service_is_handed_no_files_and_sends_none(
    exchange: Exchange, tmp_path: Path
) -> None:
    champion, files = tmp_path / "champion", exchange.of("v1")
    champion.mkdir()
    (champion / "manifest.json").write_text("{}")
    handed = job(tmp_path, champion=champion)
    (handed.checkpoints / "network.pt").write_text("epoch 3")
    files.hand_over(handed, "r-1", local=True)
    assert exchange.open_run() is None  # it is the service's own
    files.send_result(RESULT, None)
    assert sorted(path.name for path in Path(files.uri).iterdir()) == ["job.json", "result.json"]
    result = files.result()
    assert result is not None
    files.collect(result, tmp_path / "collected")
    assert not (tmp_path / "collected").exists()


def test_no_credential_is_written_to_the_exchange(exchange: Exchange, tmp_path: Path) -> None:
    exchange.of("v1").hand_over(job(tmp_path), "")
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [text for text in written if "s3cret" in text]


def test_job_has_no_setting_that_an_older_service_may_not_know(
    exchange: Exchange, tmp_path: Path
) -> None:
    files = exchange.of("v1")
    handed = job(tmp_path, training=TrainingSection(seed=7))
    files.hand_over(handed, "r-1")
    written = json.loads((Path(files.uri) / "job.json").read_text())
    assert written["job"]["training"] == {"seed": 7}
    assert received(files, tmp_path / "place").training == handed.training


def test_start_that_finds_checkpoints_reads_the_lake_that_they_were_made_on(
    exchange: Exchange, tmp_path: Path
) -> None:
    files = exchange.of("v1")
    files.hand_over(job(tmp_path), "")
    files.send_progress({"stage": "fitting", "progress": 0.1, "lake_version": 4})
    assert received(files, tmp_path / "first").lake_version is None  # nothing is kept yet
    (tmp_path / "network.pt").write_text("epoch 1")
    files.send_checkpoint(tmp_path / "network.pt")
    second = received(files, tmp_path / "second")
    assert (second.lake_version, second.catalog_version) == (4, None)


def test_job_is_handed_over_once(exchange: Exchange, tmp_path: Path) -> None:
    files = exchange.of("v1")
    files.hand_over(job(tmp_path), "r-1")
    files.hand_over(job(tmp_path, profile="best"), "r-2")
    handed = files.handed()
    assert handed is not None
    assert (handed.job.profile, handed.request_id) == ("fast", "r-1")


def test_result_names_the_bundle_of_the_start_that_was_last(
    exchange: Exchange, tmp_path: Path
) -> None:
    files = exchange.of("v1")
    for text in ("one", "two"):
        output = tmp_path / text
        output.mkdir()
        (output / "manifest.json").write_text(text)
        files.send_result(RESULT, output)
    result = files.result()
    assert result is not None
    assert result.trained == RESULT
    files.collect(result, tmp_path / "collected")
    assert (tmp_path / "collected" / "manifest.json").read_text() == "two"


def test_oldest_run_without_a_result_is_open_until_it_is_dropped(
    exchange: Exchange, tmp_path: Path
) -> None:
    assert exchange.open_run() is None
    for version in ("b", "a", "c"):
        exchange.of(version).hand_over(job(tmp_path, version), "")
    exchange.of("a").send_failure("too little data")
    opened = exchange.open_run()
    assert opened is not None
    assert opened.uri == exchange.of("b").uri
    opened.drop()
    exchange.of("c").drop()
    assert (exchange.runs(), exchange.open_run()) == (["a"], None)
