"""Patches of one item at two replicas of ingestion all count, in the order of the log; those of a
user, too, up to an erasure.
"""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.settings import FeaturesSettings
from services.training.run.dataset import _items
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import patched
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.topics import CATALOG, DEAD_LETTERS, PEOPLE
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.stores import lake
from slipstream.stores.online import OnlineReader, OnlineStore
from tests.integration.running_materializer import messages, running
from tests.integration.test_ingestion import AUTH
from tests.integration.test_ingestion_admission import app_of


def test_two_replicas_that_patch_one_item(settings: FeaturesSettings) -> None:
    replica = (settings.kafka, settings.redis, settings.namespace)

    def patch(client: TestClient, item_id: str, **changes: object) -> None:
        answer = client.patch(f"/v1/items/{item_id}", json=changes, auth=AUTH)
        assert answer.json()["accepted"] == 1

    with (
        TestClient(app_of(*replica)) as first,
        TestClient(app_of(*replica)) as second,
        running(settings) as run,
    ):
        lamp = {"item_id": "lamp", "title": "Lamp", "price": 9, "categories": ["light"], "old": 1}
        assert first.post("/v1/items", json={"items": [lamp]}, auth=AUTH).json()["accepted"] == 1
        for price in range(10, 20):
            patch(second, "lamp", price=price)
            patch(first, "lamp", stock=price, old=None)
        patch(second, "lamp", available=False)
        patch(first, "nobody", price=1)
        run.settle()
        (online,) = run.store.catalog_items()
        (letter,) = messages(settings, DEAD_LETTERS, 1)
        in_lake = run.lake.read(lake.CATALOG)
        snapshot = LakeSnapshot(run.lake, ())
    whole = {"title": "Lamp", "price": 19, "categories": ["light"], "stock": 19}
    assert (online.record.attributes, online.record.available) == (whole, False)
    assert snapshot.entries["item", "lamp"].record.attributes == whole
    assert _items(in_lake)[0] == {"lamp": whole}
    assert set(in_lake["entity"].to_pylist()) == {"item"}
    assert letter.record.code == "unknown_item"
    assert '"nobody"' in letter.record.original
    log = [each for each in messages(settings, CATALOG, 23) if each.record.entity_id == "lamp"]
    assert len({message.source for message in log}) == 1, "one item, one order"
    served = Catalog()
    for message in log:
        served.apply(StreamCatalogRecord(*message.position, message.record))
    (record,) = served.records()
    assert (record.record.attributes, record.record.available) == (whole, False)


@st.composite
def logs(draw: st.DrawFn) -> list[StreamCatalogRecord]:
    """Records of one item: whole ones, deletions and patches."""
    entries = []
    for offset in range(draw(st.integers(1, 10))):
        entity = draw(st.sampled_from(["item", "item_patch", "item_patch", "item_patch"]))
        record = CatalogRecord(
            entity=entity,
            entity_id="a",
            timestamp=1 + draw(st.integers(0, 3)),
            attributes=draw(st.dictionaries(st.sampled_from("pq"), st.none() | st.integers(0, 9))),
            deleted=entity == "item" and draw(st.integers(0, 3)) == 0,
        )
        entries.append(StreamCatalogRecord("t:0", offset, record))
    return entries


def folded(entries: Sequence[StreamCatalogRecord]) -> CatalogRecord | None:
    item: CatalogRecord | None = None
    for _, _, record in entries:
        item = record if record.entity == "item" else patched(item, record) or item
    return item


@examples(max_examples=60, deadline=None, suppress_health_check=[*HealthCheck])
@given(logs(), st.data())
def test_the_store_and_serving_fold_a_log_alike_and_reading_again_changes_nothing(
    redis_settings: RedisSettings, entries: list[StreamCatalogRecord], data: st.DataObject
) -> None:
    store, served = OnlineStore(redis_settings, f"t-{uuid.uuid4().hex[:12]}"), Catalog()
    stopped = data.draw(st.integers(0, len(entries)))
    committed = data.draw(st.integers(0, stopped))
    wholes = store.put_catalog(entries[:stopped]).patched
    again = store.put_catalog(entries[committed:]).patched
    for entry in (*entries[:stopped], *entries[committed:]):
        served.apply(entry)
    item = folded(entries)
    for kept in (next(store.catalog_items(), None), next(served.records(), None)):
        held = kept.record if kept is not None else None
        assert (held is None) == (item is None)
        if held is not None and item is not None:
            assert (held.attributes, held.deleted) == (item.attributes, item.deleted)
    # Rows of the lake: each as of its place, or of the item as it was kept when it was read again.
    for (_, offset), whole in (wholes | again).items():
        assert whole == folded(entries[: offset + 1])
    store.close()


def user(
    offset: int, *, by_browser: bool = False, patch: bool = False, **attributes: object
) -> StreamCatalogRecord:
    record = CatalogRecord(
        entity="user_patch" if patch else "user",
        entity_id="ada",
        timestamp=1 + offset,
        attributes=attributes,
        available=None if patch else True,
        by_browser=by_browser,
    )
    return StreamCatalogRecord("t:0", offset, record)


def kept(redis_settings: RedisSettings, namespace: str) -> dict[str, object] | None:
    async def read() -> CatalogRecord | None:
        reader = OnlineReader(redis_settings, namespace)
        try:
            return (await reader.catalog(["ada"], "user"))[0]
        finally:
            await reader.aclose()

    record = asyncio.run(read())
    return None if record is None else record.attributes


def test_patches_of_a_user_merge_and_a_page_s_word_is_no_base_for_them(
    redis_settings: RedisSettings, namespace: str
) -> None:
    store = OnlineStore(redis_settings, namespace)
    missed = store.put_catalog([user(0, patch=True, plan="pro")]).missed
    assert missed == {("t:0", 0)}
    store.put_catalog([user(1, name="Ada", plan="free")])
    page = user(2, by_browser=True, name="Eve")
    store.put_catalog([page, user(3, patch=True, plan="pro"), user(4, patch=True, name=None)])
    assert kept(redis_settings, namespace) == {"plan": "pro"}
    store.put_catalog([user(3, patch=True, plan="pro")])  # read again
    assert kept(redis_settings, namespace) == {"plan": "pro"}
    store.close()


@pytest.mark.parametrize(("cut", "left"), [(0, True), (1, False), (2, False), (3, False)])
def test_an_erasure_takes_a_patched_user_whose_whole_record_stands_before_the_cut(
    redis_settings: RedisSettings, namespace: str, cut: int, left: bool
) -> None:
    store = OnlineStore(redis_settings, namespace)
    store.put_catalog([user(0, name="Ada"), user(1, patch=True, plan="pro")])
    store.put_catalog([user(2, patch=True, age=3)])
    store.erasures.erase_entries(["ada"], {PEOPLE.name: {"t:0": cut}})
    whole = {"name": "Ada", "plan": "pro", "age": 3}
    assert kept(redis_settings, namespace) == (whole if left else None)
    # Read again, and a patch that comes later.
    again = [user(0, name="Ada"), user(1, patch=True, plan="pro"), user(3, patch=True, seen=1)]
    store.put_catalog(again)
    assert kept(redis_settings, namespace) == (whole | {"seen": 1} if left else None)
    store.put_catalog([user(4, name="Bea"), user(5, patch=True, plan="free")])
    assert kept(redis_settings, namespace) == {"name": "Bea", "plan": "free"}
    store.close()


def test_patches_of_a_user_are_in_the_lake_as_they_came_and_a_rebuild_merges_them(
    settings: FeaturesSettings,
) -> None:
    replica = (settings.kafka, settings.redis, settings.namespace)
    with TestClient(app_of(*replica)) as client, running(settings) as run:
        users = {"users": [{"user_id": "ada", "name": "Ada", "plan": "free"}]}
        assert client.post("/v1/users", json=users, auth=AUTH).json()["accepted"] == 1
        for user_id in ("ada", "nobody"):
            answer = client.patch(f"/v1/users/{user_id}", json={"plan": "pro"}, auth=AUTH)
            assert answer.json()["accepted"] == 1
        run.settle()
        (letter,) = messages(settings, DEAD_LETTERS, 1)
        rows = run.lake.read(lake.CATALOG)
        snapshot = LakeSnapshot(run.lake, ())
    merged = {"name": "Ada", "plan": "pro"}
    assert kept(settings.redis, settings.namespace) == merged
    assert letter.record.code == "unknown_user"
    found = dict(zip(rows["entity"].to_pylist(), rows["attributes"].to_pylist(), strict=True))
    assert found == {"user": '{"name":"Ada","plan":"free"}', "user_patch": '{"plan":"pro"}'}
    rebuilt = OnlineStore(settings.redis, "rebuilt-" + settings.namespace)
    rebuilt.put_catalog(list(snapshot.entries.values()))
    rebuilt.close()
    assert kept(settings.redis, "rebuilt-" + settings.namespace) == merged
