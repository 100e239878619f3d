"""Reads and admission on a Redis Cluster of three nodes, of which one dies."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.contracts.times import HOUR_MS
from slipstream.stores.admission_store import (
    DONE,
    FIRST,
    PENDING,
    AdmissionQuery,
    AdmissionStore,
)
from slipstream.stores.connection import StoreUnavailableError, connect
from slipstream.stores.gathered_reads import ClusterReads, Values
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineReader, OnlineStore
from slipstream.stores.redis_clients import waiting_client
from slipstream_cli.local.processes import Child
from tests.integration.merge_stories import NOW, link, view
from tests.redis_clusters import (
    cluster_url,
    owner,
    running_cluster,
    running_replica,
    wait_until_whole,
)

pytestmark = pytest.mark.servers("real")

Nodes = dict[str, Child]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with running_cluster(tmp_path_factory.mktemp("nodes")) as made:
        yield made


@pytest.fixture
def settings(nodes: Nodes) -> RedisSettings:
    return RedisSettings(url=SecretStr(cluster_url(nodes)), timeout_s=5.0)


@pytest.fixture
async def reads(settings: RedisSettings) -> AsyncIterator[ClusterReads]:
    client = waiting_client(settings.url.get_secret_value(), 3.0, 8)
    yield ClusterReads(client, 8)
    await client.aclose()


def let_others_answer(nodes: Nodes) -> None:
    """Have the nodes answer for their slots while those of another one are away."""
    for child in nodes.values():
        with redis.Redis(port=child.port) as node:
            node.config_set("cluster-require-full-coverage", "no")


async def test_values_come_in_the_order_of_their_keys_whichever_node_has_them(
    nodes: Nodes, settings: RedisSettings, reads: ClusterReads, namespace: str
) -> None:
    keys = [f"{namespace}:{number}" for number in range(20)]
    assert {owner(nodes, key) for key in keys} == {*nodes}
    client = connect(settings)
    for key in keys[1:]:
        client.set(key, key)
    client.close()
    assert await reads.values(keys) == [None, *(key.encode() for key in keys[1:])]
    assert await reads.values(keys[5:6]) == [keys[5].encode()]
    assert {reads.node(key) for key in keys} == {child.address for child in nodes.values()}


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_node_that_is_away_fails_its_own_keys_alone_until_it_is_back(
    hangs: bool, nodes: Nodes, reads: ClusterReads, namespace: str
) -> None:
    let_others_answer(nodes)
    keys = {owner(nodes, key): key for key in (f"{namespace}:{number}" for number in range(20))}
    dead, *living = nodes
    assert await reads.values([*keys.values()]) == [None] * 3
    process = nodes[dead].process
    assert process is not None
    process.send_signal(signal.SIGSTOP if hangs else signal.SIGKILL)
    for _ in range(1 if hangs else 3):
        waiting = asyncio.create_task(reads.values([keys[dead]]))
        for _ in range(3):
            assert await reads.values([keys[name] for name in living]) == [None, None]
        if hangs:
            assert not waiting.done()
        with pytest.raises(StoreUnavailableError):
            await waiting
    if hangs:
        process.send_signal(signal.SIGCONT)
    else:
        nodes[dead].start()

    wait_until_whole(nodes)
    # At most one more read fails: it finds the connections dead.
    with suppress(StoreUnavailableError):
        await reads.values([*keys.values()])
    assert await reads.values([*keys.values()]) == [None] * 3


async def test_a_reader_finds_what_the_store_has_written_on_all_nodes(
    nodes: Nodes, settings: RedisSettings, namespace: str
) -> None:
    store, reader = OnlineStore(settings, namespace), OnlineReader(settings, namespace)
    people, items = ["a", "b", "c", "u"], [f"i{number}" for number in range(8)]
    assert {owner(nodes, Keys(namespace).item(item)) for item in items} == {*nodes}
    store.apply([view(person, number) for number, person in enumerate(people)])
    store.link([link("a", "u", 4)])
    records = [CatalogRecord(entity="item", entity_id=each, timestamp=NOW) for each in items]
    store.put_catalog([StreamCatalogRecord("c:0", n, each) for n, each in enumerate(records)])
    states = await reader.visitors([*people, "nobody"])
    assert [state and state.counts for state in states] == [
        {"view": 2}, {"view": 1}, {"view": 1}, {"view": 2}, None
    ]  # fmt: skip
    assert [await reader.visitor(person) for person in people] == states[:4]
    assert {user for user, _ in (await reader.users(people)).values()} == {"b", "c", "u"}
    assert await reader.catalog([*items, "none"]) == [*records, None]
    assert await reader.trending(3) == store.trending(3) != []
    assert len(await reader.active_visitors(9)) == 4
    store.close()
    await reader.aclose()


async def test_a_replica_that_took_over_is_read(tmp_path: Path, namespace: str) -> None:
    with (
        running_cluster(tmp_path) as nodes,
        running_replica(tmp_path, nodes, "redis 1") as replica,
    ):
        client = waiting_client(cluster_url(nodes), 3.0, 8)
        reads = ClusterReads(client, 8)
        names = (f"{namespace}:{number}" for number in range(20))
        key = next(name for name in names if owner(nodes, name) == "redis 1")
        await client.set(key, "kept")
        await client.execute_command("WAIT", 1, 3_000, target_nodes=client.get_node_from_key(key))
        assert await reads.values([key]) == [b"kept"]
        nodes["redis 1"].kill()
        values: Values = []
        # The killed one may still answer once.
        while not values or reads.node(key) != replica.address:
            with suppress(StoreUnavailableError):
                values = await reads.values([key])
        assert values == [b"kept"]
        await client.aclose()


async def test_a_reader_is_ready_while_every_node_answers(
    nodes: Nodes, settings: RedisSettings, namespace: str
) -> None:
    reader = OnlineReader(settings, namespace)
    await reader.refuse_cluster()
    await reader.ping()
    assert await reader.visitor("nobody") is None
    assert await reader.trending(3) == []
    nodes["redis 2"].kill()
    with pytest.raises(StoreUnavailableError):
        await reader.ping()
    nodes["redis 2"].start()
    wait_until_whole(nodes)
    await reader.aclose()


async def test_ids_are_doubted_once_their_node_has_restarted(
    nodes: Nodes, settings: RedisSettings, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipstream.stores.admission_store.LIMIT_S", 5.0)
    store = AdmissionStore(settings, namespace, window_ms=HOUR_MS)
    await store.refuse_server()

    async def code(name: str) -> int:
        key = store.message_key("shop", "", name)
        (verdict,) = await store.judge([AdmissionQuery("shop", [key], [None])])
        store._not_before = 0.0
        return verdict.codes[0]

    assert await code("m-0") == FIRST
    store.acknowledged([store.message_key("shop", "", "m-0")])
    assert await code("m-0") == DONE
    home = owner(nodes, f"{{{namespace}:admission}}:gap")
    for name in nodes:
        nodes[name].kill()
        nodes[name].start()
        wait_until_whole(nodes)
        answer = await code(f"after-{name}")
        while store._away:
            answer = await code(f"after-{name}")
        assert answer == (PENDING if name == home else FIRST)
        if name == home:
            break
    await store.ping()
    await store.aclose()
