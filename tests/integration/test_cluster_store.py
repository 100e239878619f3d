"""The online store on a Redis Cluster of three nodes is what it is on one server."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from slipstream.chassis.dependencies import RefusedSettingsError
from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord, StreamInteraction
from slipstream.stores.lake import LakeLease
from slipstream.stores.online import (
    CheckpointMove,
    Durability,
    OnlineStore,
    Retention,
    StoreUnavailableError,
)
from slipstream.stores.rebuild import Rebuild, RebuiltItem, RebuiltVisitor
from slipstream.stores.redis_server import RedisFiles
from tests.integration.cluster_losses import Losses, again
from tests.integration.merge_stories import NOW, PEOPLE, Step, link, view
from tests.redis_clusters import running_cluster, running_replica
from tests.waiting import until

pytestmark = pytest.mark.servers("real")

ITEMS = [f"i{number}" for number in range(7)]


def story(seed: int) -> list[list[Step]]:
    """Batches of views, links, entries, patches and an erasure."""
    rng, number = random.Random(seed), 0
    batches = []
    for _ in range(6):
        batch = list[Step]()
        for _ in range(rng.randrange(1, 8)):
            number += 1
            person = rng.choice(PEOPLE)
            steps: list[Step] = [
                view(person, number),
                view(person, number, kind="purchase"),
                link(person, rng.choice(PEOPLE), number),
                entry("item", rng.choice(ITEMS), number, price=number),
                entry("item_patch", rng.choice(ITEMS), number, price=number),
                entry("user", person, number, plan="gold"),
                erasure(person, number),
            ]
            batch.append(rng.choice(steps))
        batches.append(batch)
    return batches


def entry(entity: str, entity_id: str, number: int, **attributes: object) -> StreamCatalogRecord:
    record = CatalogRecord(
        entity=entity, entity_id=entity_id, timestamp=NOW + number, attributes=attributes
    )
    return StreamCatalogRecord("c:2", number, record)


def erasure(user_id: str, number: int) -> StreamCatalogRecord:
    ends = {"t:0": number, "t:1": number, "t:2": number}
    record = CatalogRecord(
        entity="user",
        entity_id=user_id,
        timestamp=NOW + number,
        deleted=True,
        cut={"interactions.v1": ends, "people.v1": {"c:0": number, "c:1": number}},
    )
    return StreamCatalogRecord("p:0", number, record)


def take(store: OnlineStore, batch: list[Step]) -> None:
    """Apply a batch as the materializer does."""
    catalog = [step for step in batch if isinstance(step, StreamCatalogRecord)]
    last = max(step.offset for step in batch)
    store.follow({"t:0": [(1, last, last)]})
    store.apply([step for step in batch if isinstance(step, StreamInteraction)])
    store.put_catalog(
        [step for step in catalog if step.record.entity != "identity" and not step.record.deleted]
    )
    for step in catalog:
        if step.record.deleted:
            store.erase(step)
    store.link([step for step in catalog if step.record.entity == "identity"])
    assert store.advance({"t:0": CheckpointMove(-1, last + 1)})


def everything(store: OnlineStore) -> list[object]:
    """Whatever the store tells, revisions apart."""
    entries = sorted(store.catalog_items(), key=lambda each: each.record.entity_id)
    return [
        {name: stored.content for name, stored in store._merges._values.read(PEOPLE).items()},
        [store.visitor(name) for name in PEOPLE],
        [store.erasures.members(name) for name in PEOPLE],
        store.erasures.merged_among(PEOPLE),
        store._catalog.erased_before(PEOPLE),
        [store._catalog.said_by_server(name) for name in PEOPLE],
        store.items(ITEMS),
        entries,
        store.trending(10),
        store.watermark(),
        store.checkpoints(["t:0", "t:1"]),
        store.follow({"t:0": [(2, 0, 0)]}),
        store.held(),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_states_are_those_that_one_server_has(
    seed: int, losses: Losses, redis_settings: RedisSettings, namespace: str
) -> None:
    told = []
    for settings in (redis_settings, losses.settings):
        store = OnlineStore(settings, namespace)
        for batch in story(seed):
            take(store, batch)
        told.append(everything(store))
        for name in PEOPLE:
            store.erasures.separate(name)
        store.erasures.erase_entries(PEOPLE, {"people.v1": {"c:0": 1_000}})
        store.erasures.forget(PEOPLE)
        told[-1] += everything(store)
        assert store.durability({"t:0": 1}) is Durability.SAFE
        assert store.durability({"t:0": 10_000}) is Durability.LOST
        assert store.memory().used > 0
        store.ping()
        store.close()
    assert told[0] == told[1]


def test_history_is_written_as_to_one_server(
    losses: Losses, redis_settings: RedisSettings, namespace: str
) -> None:
    told = []
    for settings in (redis_settings, losses.settings):
        store = OnlineStore(settings, namespace)
        rebuild = Rebuild(settings, namespace, Retention(), lambda source: 1_000)
        for number, name in enumerate("abuv"):
            store.apply([view(name, number)])
        state, item = store.visitor("a"), store.items(["i0"])[0]
        assert state is not None and item is not None
        merged = RebuiltVisitor("u", state, ("a", "b"), NOW * 2)
        assert rebuild.visitors([merged]) == []
        assert rebuild.items([RebuiltItem("i5", item, NOW * 2)]) == []
        assert rebuild.states(["u", "a"])[1] is None
        rebuild.add_pairs({"i0": [], "i9": []})
        rebuild.hold(10.0)
        assert store.held()
        rebuild.release()
        told.append(everything(store))
    assert told[0] == told[1]


def test_a_node_that_restarted_refuses_a_batch_that_began_before(
    losses: Losses, namespace: str
) -> None:
    store = losses.store(namespace)
    batch = [view(name, number, f"t:{number}") for number, name in enumerate(PEOPLE)]
    store.checkpoints(["t:0"])
    for name in losses.children:
        store.apply(batch)
        losses.crash(name)
        with pytest.raises(StoreUnavailableError, match="NoScriptError"):
            store.advance({"t:0": CheckpointMove(-1, 2)})
        assert store.checkpoints(["t:0"]) == {}
    again(lambda: store.apply(batch))
    assert store.advance({"t:0": CheckpointMove(-1, 2)})
    assert [state.counts for name in PEOPLE if (state := store.visitor(name))] == [
        {"view": 1}
    ] * len(PEOPLE)


def test_a_batch_settles_on_a_replica_which_takes_over_with_all_of_it(
    tmp_path: Path, namespace: str
) -> None:
    batch = [view(name, number, f"t:{number}") for number, name in enumerate(PEOPLE)]
    with (
        running_cluster(tmp_path) as children,
        running_replica(tmp_path, children, "redis 1") as replica,
    ):
        store = OnlineStore(Losses(tmp_path, children).settings, namespace)
        again(lambda: store.apply(batch))
        with redis.Redis(port=replica.port) as node:
            pid = node.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailableError, match=r"replica of .* in time"):
            store.advance({"t:0": CheckpointMove(-1, 5)})
        os.kill(pid, signal.SIGCONT)
        again(lambda: store.advance({"t:0": CheckpointMove(-1, 5)}))
        told = [store.visitor(name) for name in PEOPLE]
        children["redis 1"].kill()

        def answers() -> bool:
            with suppress(StoreUnavailableError):
                store.apply(batch)
                return True
            return False

        until(answers)
        with pytest.raises(StoreUnavailableError, match="NoScriptError"):
            store.advance({"t:0": CheckpointMove(5, 6)})  # the replica has not met the writer
        assert store.checkpoints(["t:0"]) == {"t:0": 5}
        assert [store.visitor(name) for name in PEOPLE] == told


def test_every_node_writes_its_files_anew(losses: Losses, namespace: str) -> None:
    files = RedisFiles(losses.settings, namespace)
    assert files.written_at() is None

    def written() -> bool:
        files.rewrite(1_000, 2_000)
        return files.written_at() == 2_000

    until(written)


def test_a_lease_has_one_holder(losses: Losses, namespace: str) -> None:
    one, two = LakeLease(losses.settings, namespace), LakeLease(losses.settings, namespace)
    assert one.take() and one.take() and not two.take()
    one.hold()
    assert two.held()
    one.release()
    assert not two.held()


def test_a_server_that_is_alone_is_no_cluster(redis_url: str, namespace: str) -> None:
    url = redis_url.replace("redis://", "redis+cluster://").removesuffix("/0")
    store = OnlineStore(RedisSettings(url=SecretStr(url)), namespace)
    with pytest.raises(RefusedSettingsError, match="cluster-enabled no"):
        store.memory()
