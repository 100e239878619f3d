"""The whole drill: SQL, models and Redis are lost, and the services start on what came back."""

import asyncio
import shutil
from pathlib import Path

import pytest

from services.features.settings import FeaturesSection, FeaturesSettings
from services.monitoring.control.access_repository import AccessKeyBook
from services.monitoring.control.experiments_repository import ExperimentTable
from services.monitoring.control.named_records_repository import PlacementTable
from slipstream.broker.producer import OutgoingRecord, Producer
from slipstream.broker.topics import ensure_topics
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.access import AccessKey
from slipstream.contracts.experiments import Experiment, ExperimentDesign, Variant
from slipstream.contracts.placements import Placement, PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.contracts.topics import ACCESS_KEYS, EXPERIMENTS, PLACEMENTS
from tests.integration.backed_up_shop import Place, place
from tests.integration.backfill_shop import Shop as Stream
from tests.integration.backfill_shop import assert_same
from tests.integration.launched_services import Launch, answer
from tests.integration.test_backup import trained
from tests.waiting import until

__all__ = ["place"]


@pytest.mark.servers("real")
def test_services_start_on_what_a_backup_and_the_lake_bring_back(
    place: Place,
    launch: Launch,
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
) -> None:
    stream = Stream(
        FeaturesSettings(
            redis=redis_settings,
            lake=lake_settings,
            namespace=namespace,
            features=FeaturesSection(),
        )
    )
    stream.take(stream.events(200))
    due = stream.held()
    shop, other, backup = place("shop").migrated(), place("other"), tmp_path / "backup"
    for each in (shop, other):
        each.environment |= {
            "SLIPSTREAM_NAMESPACE": namespace,
            "SLIPSTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "SLIPSTREAM_REDIS__URL": redis_settings.url.get_secret_value(),
        }
    training = trained(shop)
    training.lease.release()
    training.engine.dispose()
    shop.shows("ada")
    AccessKeyBook(shop.db).create(
        AccessKey(digest="a" * 64, name="shop", scopes=["read"], created_at=1),
        AuditRecord(at=1, principal="ada", action="create key", subject="shop"),
    )
    PlacementTable(shop.db).put(
        "home",
        PlacementPolicy(),
        AuditRecord(at=1, principal="ada", action="put_placement", subject="home"),
    )
    assert shop.run("backup", str(backup)).exit_code == 0

    _tell_changes(broker, namespace)
    stream.wipe()
    shutil.rmtree(shop.folder / "models")

    restored = other.run("restore", str(backup))
    assert restored.exit_code == 0, restored.output
    entries = {entry.key.name: entry.key.revoked_at for entry in AccessKeyBook(other.db).page(100)}
    assert entries == {"shop": 2, "made since": None}
    revisions = PlacementTable(other.db).revisions("home", 10)
    assert [it.revision for it in revisions] == [4, 1]
    assert ExperimentTable(other.db).find("calmer").revision == 2
    rebuilt = other.run("backfill")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert_same(stream.held(), due)

    settings = {
        name.removeprefix("SLIPSTREAM_").lower(): value for name, value in other.environment.items()
    }
    settings |= {
        "kafka__bootstrap_servers": broker.bootstrap_servers,
        "kafka__session_timeout_ms": str(broker.session_timeout_ms),
    }
    services = [launch(name, **settings) for name in ("training", "monitoring")]
    for service in services:
        until(
            lambda service=service: answer(service, "/health/ready").status_code == 200,
            lambda service=service: (tmp_path / f"{service.name}.log").read_text()[-3_000:],
        )
    champion = answer(services[0], "/v1/aliases/champion").json()
    assert champion["version"] == "a" and champion["files"] == ["manifest.json"]
    assert answer(services[0], "/v1/models/a/files/manifest.json").json()["version"] == "a"
    shown = answer(services[1], "/v1/reports/quality?hours=24")
    assert shown.status_code == 200


def _tell_changes(broker: KafkaSettings, namespace: str) -> None:
    """Since the backup a key was revoked, another one made, a placement changed three times, and an
    experiment begun, as the topics know.
    """
    ensure_topics(broker, namespace)
    producer = Producer(broker, namespace)
    keys = [
        AccessKey(digest="a" * 64, name="shop", scopes=["read"], created_at=1, revoked_at=2),
        AccessKey(digest="b" * 64, name="made since", scopes=["read"], created_at=2),
    ]
    records = [OutgoingRecord(ACCESS_KEYS, key.digest, key) for key in keys]
    home = Placement(name="home", revision=4, changed_at=2)
    design = ExperimentDesign(
        placements=["home"],
        variants=[Variant(name="as-now"), Variant(name="varied", diversity=0.5)],
    )
    calmer = Experiment(name="calmer", revision=2, design=design, changed_at=2)
    records += [
        OutgoingRecord(PLACEMENTS, home.name, home),
        OutgoingRecord(EXPERIMENTS, calmer.name, calmer),
    ]
    asyncio.run(producer.publish(records))
    producer.close()
