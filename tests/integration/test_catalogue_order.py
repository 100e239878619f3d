"""Of two records of an item the later one in the log counts, whatever replicas' clocks say."""

import uuid
from collections.abc import Sequence

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.settings import FeaturesSettings
from services.training.run.dataset import _items
from slipstream.chassis.settings import KafkaSettings, LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import CATALOG
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.stores import lake
from slipstream.stores.online import OnlineStore
from tests.integration.running_materializer import QUICK, messages, running
from tests.integration.test_ingestion import AUTH
from tests.integration.test_ingestion_admission import app_of

NOW = 1_790_000_000_000


def test_two_replicas_whose_clocks_differ(
    broker: KafkaSettings,
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ahead = app_of(broker, redis_settings, namespace)
    right = app_of(broker, redis_settings, namespace)

    def upsert(client: TestClient, clock_ms: int, **attributes: str) -> None:
        monkeypatch.setattr("services.ingestion.intake.now_ms", lambda: clock_ms)
        items = {"items": [{"item_id": "kettle", **attributes}]}
        assert client.post("/v1/items", json=items, auth=AUTH).json()["accepted"] == 1

    features = FeaturesSettings(
        kafka=broker, redis=redis_settings, lake=lake_settings, namespace=namespace, features=QUICK
    )
    now = now_ms()
    with TestClient(ahead) as first, TestClient(right) as second, running(features) as run:
        upsert(first, now + HOUR_MS, title="Ketle")
        upsert(second, now, title="Kettle")
        run.settle()
        (online,) = run.store.catalog_items()
        snapshot = LakeSnapshot(run.lake, ())
        in_lake = run.lake.read(lake.CATALOG)
    assert online.record.attributes == {"title": "Kettle"}
    assert snapshot.entries["item", "kettle"].record.attributes == {"title": "Kettle"}
    assert _items(in_lake)[0] == {"kettle": {"title": "Kettle"}}
    served = Catalog()
    for message in messages(features, CATALOG, 2):
        served.apply(StreamCatalogRecord(*message.position, message.record))
    served.apply(online)
    assert served.attributes("kettle") == b'{"title":"Kettle"}'


@st.composite
def logs(draw: st.DrawFn) -> list[StreamCatalogRecord]:
    """Records of one item, of a topic and of the one recreated after it."""
    entries = []
    for topic in ("first", "second"):
        for offset in range(draw(st.integers(0, 6))):
            record = CatalogRecord(
                entity="item",
                entity_id="a",
                timestamp=NOW + draw(st.integers(0, 4)) + (10 if topic == "second" else 0),
                client_time=draw(st.booleans()),
                deleted=draw(st.integers(0, 3)) == 0,
            )
            entries.append(StreamCatalogRecord(f"{topic}:0", offset, record))
    return entries


def newest(entries: Sequence[StreamCatalogRecord]) -> StreamCatalogRecord | None:
    """The entry that is kept, with the time at which its item appeared."""
    held, appeared = None, None
    for entry in entries:
        if held is None or entry.place.replaces(held.place):
            held, at = entry, entry.record.timestamp
            appeared = (
                None if entry.record.deleted else min(at, at if appeared is None else appeared)
            )
    if held is None or held.record.entity != "item":
        return held
    return held._replace(record=held.record.model_copy(update={"appeared_at": appeared}))


@settings(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(logs(), st.data())
def test_the_store_s_script_has_the_same_rule_and_reading_again_changes_nothing(
    redis_settings: RedisSettings, entries: list[StreamCatalogRecord], data: st.DataObject
) -> None:
    store = OnlineStore(redis_settings, f"t-{uuid.uuid4().hex[:12]}")
    stopped = data.draw(st.integers(0, len(entries)))
    committed = data.draw(st.integers(0, stopped))
    store.put_catalog(entries[:stopped])
    store.put_catalog(entries[committed:])
    assert next(store.catalog_items(), None) == newest(entries)
    store.close()


def test_without_clients_times_the_last_of_a_log_counts() -> None:
    def entry(offset: int, timestamp: int, *, told: bool = False) -> StreamCatalogRecord:
        record = CatalogRecord(entity="user", entity_id="u", timestamp=timestamp, client_time=told)
        return StreamCatalogRecord("t:0", offset, record)

    assert newest([entry(0, 9), entry(1, 5)]) == entry(1, 5)
    assert newest([entry(0, 9, told=True), entry(1, 5)]) == entry(1, 5)
    late = [entry(0, 9, told=True), entry(1, 5, told=True)]
    assert newest(late) == late[0], "an event that came late"
