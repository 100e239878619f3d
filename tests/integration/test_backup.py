"""The drill: everything is lost but the lake, and a backup brings it back."""

import json
import shutil
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from services.monitoring.alert_repository import alerts
from services.monitoring.control.access_repository import AccessKeyBook
from services.training.records import Audit
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.access import AccessKey
from slipstream.contracts.events import CatalogRecord, ModelEvent, ModelEventType
from slipstream.contracts.topics import PEOPLE
from slipstream.stores.lake import CATALOG, INTERACTIONS, Lake
from slipstream.stores.lease import Lease
from slipstream_cli.backups import restore as restoring
from tests.integration.backed_up_shop import Place, Shop, place
from tests.integration.test_lost_lease import Instance
from tests.unit.stores.lake_rows import catalog_rows, rows
from tests.unit.training.challengers import bundle, result_of

__all__ = ["place"]


@pytest.fixture
def lake(lake_settings: LakeSettings) -> Lake:
    made = Lake(lake_settings, "shop")
    made.append(INTERACTIONS, rows("e1", "e2"), {})
    link = json.dumps({"user_id": "cleo"})
    made.append(CATALOG, catalog_rows(("identity", "anon-of-cleo"), attributes=link), {})
    return made


@pytest.fixture(autouse=True)
def people(monkeypatch: pytest.MonkeyPatch) -> list[CatalogRecord]:
    """The records of `people.v1`, by a broker without keys; `test_drill` has a real one."""
    records: list[CatalogRecord] = []
    monkeypatch.setattr(
        restoring, "records_of", lambda _kafka, _namespace, topic: records * (topic is PEOPLE)
    )
    return records


@pytest.mark.servers("real")  # it takes ten seconds
def test_a_restore_without_a_broker_must_be_asked_for(
    place: Place, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"

    def away(*_: object) -> list[CatalogRecord]:
        raise BrokerUnavailableError("no broker answers")

    monkeypatch.setattr(restoring, "records_of", away)
    assert shop.run("backup", str(backup)).exit_code == 0
    refused = shop.run("restore", str(backup))
    assert refused.exit_code == 1 and "no broker answers" in refused.output
    restored = shop.run("restore", str(backup), "--without-broker")
    assert restored.exit_code == 0, restored.output
    assert "the broker does not answer: revoke again" in restored.output
    assert "the broker does not answer: set again" in restored.output


def trained(shop: Shop) -> Instance:
    """Two versions in the registry, the first of which is the champion, and a run in the queue."""
    training = Instance(shop.settings, shop.folder)
    training.take()
    training.publisher.publish("a", bundle(shop.folder, "a"), result_of(popularity=0.05))
    training.publisher.publish("b", bundle(shop.folder, "b"), result_of(popularity=-0.05))
    training.repository.add("r-1", "request", "because", "fast", "req-1")
    return training


def test_a_backup_brings_back_what_was_lost_and_no_visitor_that_was_erased_since(
    place: Place, lake: Lake, people: list[CatalogRecord], tmp_path: Path
) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    training = trained(shop)
    shop.shows("ada", "bo", "cleo", "anon-of-cleo")
    stop = threading.Event()
    writing = threading.Thread(target=_decide_until, args=(training, stop))
    writing.start()  # services run meanwhile
    made = shop.run("backup", str(backup))
    stop.set()
    writing.join()
    assert made.exit_code == 0, made.output
    assert (backup.stat().st_mode & 0o777) == 0o700
    assert "bundles            2\n" in made.output
    training.lease.release()

    # Since the backup: cleo asked to be erased, and ada came again after she had.
    asked = {"deleted": True, "timestamp": 2_000}
    people.append(CatalogRecord(entity="user", entity_id="cleo", **asked))  # done in the lake
    lake.append(CATALOG, catalog_rows(("user", "ada"), **asked), {})  # waits there
    other = place("other")  # where nothing is, in another folder
    shop_files = sorted(p.name for p in (shop.folder / "models/bundles/a").iterdir())
    shutil.rmtree(shop.folder / "models")

    checked = other.run("restore", str(backup), "--check")
    assert checked.exit_code == 0, checked.output
    assert "lake interactions  version 1 can be read" in checked.output
    restored = other.run("restore", str(backup), "--json", str(tmp_path / "report.json"))
    assert restored.exit_code == 0, restored.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["restored"]["erased_rows"] == 9  # of three visitors, three each
    assert [it["readable"] for it in report["lake"]] == [True, True]

    assert other.visitors() == ["bo"]
    again = Instance(other.settings, other.folder)
    again.take()  # the restore gave the lease back
    assert again.champion() == "a"
    assert [model.version for model in again.registry.versions(10)[0]] == ["b", "a"]
    assert [audit.outcome for audit in again.repository.decisions("b")] == ["refused"]
    assert [run.run_id for run in again.repository.in_state("queued")] == ["r-1"]
    assert again.repository.request_id("r-1") == "req-1"
    bundle_files = sorted(path.name for path in again.artifacts.path("a").iterdir())
    assert bundle_files == shop_files
    _whole_transactions_only(again)
    # Numbers go on, and MLflow writes to the new folder.
    again.repository.add("r-2", "request", "", "fast")
    again.publisher.publish(
        "c", bundle(other.folder, "c"), result_of(0.5, champion=0.5, version="a")
    )
    assert again.champion() == "c"
    assert list((other.folder / "models/reports").glob("c.html"))
    assert list((other.folder / "models/experiments").rglob("c.html"))
    again.engine.dispose()
    training.engine.dispose()


def _decide_until(training: Instance, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        name = f"d-{number}"
        audit = Audit(name, name, None, "refused", "no reason", {}, {})
        event = ModelEvent(event=ModelEventType.REFUSED, version=name, timestamp=1)
        training.repository.record(audit, [event], "")


def _whole_transactions_only(training: Instance) -> None:
    """Decisions and events that one transaction wrote are both there or both not."""
    with training.engine.connect() as connection:
        decided = connection.scalars(
            text("SELECT run_id FROM gate_decision WHERE run_id LIKE 'd-%'")
        ).all()
        told = connection.scalars(
            text("SELECT version FROM training_model_event WHERE version LIKE 'd-%'")
        ).all()
    assert sorted(decided) == sorted(told)


@pytest.mark.servers("real")
def test_what_is_there_is_replaced_only_when_asked_for(
    place: Place, lake: Lake, tmp_path: Path
) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    shop.shows("ada")
    assert shop.run("backup", str(backup)).exit_code == 0
    again = shop.run("backup", str(backup))
    assert again.exit_code == 1 and "exists" in again.output
    shop.shows("bo")
    refused = shop.run("restore", str(backup))
    assert refused.exit_code == 1 and "--overwrite" in refused.output
    assert shop.visitors() == ["ada", "bo"]
    restored = shop.run("restore", str(backup), "--overwrite")
    assert restored.exit_code == 0, restored.output
    assert shop.visitors() == ["ada"]


@pytest.mark.servers("real")
def test_a_restore_refuses_while_a_service_acts(place: Place, lake: Lake, tmp_path: Path) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    assert shop.run("backup", str(backup)).exit_code == 0
    shop.environment["SLIPSTREAM_DATABASE__LEASE_S"] = "1"  # the restore waits for twice as long
    lease = Lease("monitoring", 30.0)
    lease.take(shop.db)
    stop = threading.Event()
    keeping = threading.Thread(target=lease.keep, args=(stop,))
    keeping.start()
    refused = shop.run("restore", str(backup))
    stop.set()
    keeping.join()
    lease.release()
    del shop.environment["SLIPSTREAM_DATABASE__LEASE_S"]
    assert refused.exit_code == 1 and "stop the service" in refused.output
    assert shop.run("restore", str(backup)).exit_code == 0


def test_a_backup_that_was_changed_is_not_restored(
    place: Place, lake: Lake, tmp_path: Path
) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    assert shop.run("backup", str(backup)).exit_code == 0
    changed = next((backup / "sql").rglob("monitoring_alerts.jsonl.gz"))
    changed.write_bytes(changed.read_bytes() + b"\n")
    refused = shop.run("restore", str(backup), "--check")
    assert refused.exit_code == 1 and "checksum differs" in refused.output
    changed.unlink()
    refused = shop.run("restore", str(backup), "--check")
    assert refused.exit_code == 1 and "missing" in refused.output


def test_a_line_for_each_table_and_file_is_written_when_asked_for(
    place: Place, lake: Lake, tmp_path: Path
) -> None:
    shop, one, other = place("shop").migrated(), str(tmp_path / "one"), str(tmp_path / "other")
    short, verbose = shop.run("backup", one), shop.run("backup", "-v", other)
    assert (short.exit_code, short.stderr) == (0, "")
    assert "table monitoring_" in verbose.stderr and "checksum of " in verbose.stderr
    assert shop.run("restore", one, "--check").stderr == ""
    assert "checksum of " in shop.run("restore", one, "--check", "-v").stderr
    restored = shop.run("restore", one, "--overwrite").stderr
    assert "MLflow's tables" in restored and "checksum of " not in restored


def test_versions_of_the_lake_that_are_gone_are_told(
    place: Place, lake: Lake, tmp_path: Path
) -> None:
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    assert shop.run("backup", str(backup)).exit_code == 0
    for file in (Path(lake._root) / INTERACTIONS).rglob("*.parquet"):
        file.unlink()  # as VACUUM does
    checked = shop.run("restore", str(backup), "--check")
    assert checked.exit_code == 0
    assert "version 1 can't be read: 1 of its files are gone" in checked.output
    shutil.rmtree(Path(lake._root))
    checked = shop.run("restore", str(backup), "--check")
    assert "another lake, or an older copy" in checked.output


@pytest.mark.servers("real")
def test_rows_that_must_not_go_back_in_time_stay(
    place: Place, lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a key that was revoked since: here, alerts stand for keys."""
    monkeypatch.setattr(restoring, "live_wins", lambda table: table == alerts.name)
    shop, backup = place("shop").migrated(), tmp_path / "backup"
    row = {
        "rule": "r", "severity": "warning", "summary": "", "evidence": "{}", "action": "none",
        "opened_at": 1, "checked_at": 1, "closed_at": None, "announced": True,
        "unsent": "<json-1 opened 1>",
    }  # fmt: skip
    with shop.db.begin() as connection:
        connection.execute(insert(alerts), [row | {"alert_id": "k-1"}, row | {"alert_id": "k-2"}])
    assert shop.run("backup", str(backup)).exit_code == 0
    with shop.db.begin() as connection:
        connection.execute(alerts.update().where(alerts.c.alert_id == "k-1").values(closed_at=9))
        connection.execute(alerts.delete().where(alerts.c.alert_id == "k-2"))
        connection.execute(insert(alerts).values(row | {"alert_id": "k-3"}))
    restored = shop.run("restore", str(backup), "--overwrite")
    assert restored.exit_code == 0, restored.output
    with shop.db.connect() as connection:
        columns = (alerts.c.alert_id, alerts.c.closed_at, alerts.c.unsent != "")
        kept = connection.execute(select(*columns).order_by(alerts.c.alert_id)).all()
    # What comes from the backup sends no notice again.
    assert [*map(tuple, kept)] == [("k-1", 9, True), ("k-2", None, False), ("k-3", None, True)]


@pytest.mark.parametrize(
    ("table", "stays"),
    [
        ("monitoring_access_keys", True),
        ("monitoring_placements", True),
        ("monitoring_placement_revisions", True),
        ("monitoring_experiments", True),
        ("monitoring_experiment_revisions", True),
        ("monitoring_experiment_visitors", False),
        ("monitoring_experiment_currencies", False),
        ("monitoring_alert_rules", True),
        ("monitoring_alert_rule_revisions", True),
        ("monitoring_alerts", False),
        ("monitoring_audit", True),
        ("training_audit", True),
        ("monitoring_erasures", True),
        ("monitoring_erasure_visitors", True),
        ("monitoring_erasure_marks", True),
        ("monitoring_shadows", False),
        ("model_versions", False),
    ],
)
def test_keys_placements_audits_and_erasures_are_such_rows(table: str, stays: bool) -> None:
    assert restoring.live_wins(table) == stays


def test_keys_that_the_topic_knows_better_end_at_the_earlier_end(place: Place) -> None:
    book = AccessKeyBook(place("shop").migrated().db)
    key = AccessKey(digest="a" * 64, name="shop", scopes=["read"], created_at=1)
    ends_soon, revoked = (
        key.model_copy(update=it) for it in ({"expires_at": 9}, {"revoked_at": 7})
    )
    other = key.model_copy(update={"digest": "b" * 64, "name": "other"})
    assert book.take_in([ends_soon]) == 1
    assert book.take_in([key.model_copy(update={"expires_at": 12}), other]) == 1
    assert book.take_in([revoked]) == 1
    assert book.take_in([revoked, key, other]) == 0
    kept = {
        entry.key.name: (entry.key.expires_at, entry.key.revoked_at) for entry in book.page(100)
    }
    assert kept == {"shop": (9, 7), "other": (None, None)}
