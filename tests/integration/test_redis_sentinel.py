"""A failover by Sentinels is followed by the writer, the reader and admission."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from slipstream.chassis.settings import RedisSettings
from slipstream.contracts.times import HOUR_MS
from slipstream.features.visitor import VisitorState
from slipstream.stores.admission_store import FIRST, PENDING, AdmissionQuery, AdmissionStore
from slipstream.stores.connection import connect
from slipstream.stores.online import (
    CheckpointMove,
    Durability,
    OnlineReader,
    OnlineStore,
    StoreUnavailableError,
)
from slipstream_cli.local.processes import Child
from tests.integration.test_features_online_store import placed, view
from tests.sentinels import SERVICE, primary, running_sentinels, sentinel_url, settled, views
from tests.waiting import until

pytestmark = pytest.mark.servers("real")


@pytest.fixture
def children(tmp_path: Path) -> Iterator[dict[str, Child]]:
    with running_sentinels(tmp_path) as made:
        until(lambda: settled(made))
        yield made


@pytest.fixture
def settings(children: dict[str, Child]) -> RedisSettings:
    return RedisSettings(url=SecretStr(sentinel_url(children)), timeout_s=5.0)


def promote_another(children: dict[str, Child]) -> None:
    """Have the Sentinels make a replica the primary, while all servers live."""
    before = primary(children)
    until(lambda: takes_failover(children))
    until(lambda: primary(children) not in (None, before))
    until(lambda: settled(children))


def takes_failover(children: dict[str, Child]) -> bool:
    """Whether a failover began. A Sentinel refuses one until it has asked a replica lately."""
    with redis.Redis(port=children["sentinel 1"].port) as sentinel:
        try:
            sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
        except redis.ResponseError as refusal:
            if "NOGOODSLAVE" in str(refusal) or "INPROG" in str(refusal):
                return False
            raise
    return True


def only_two_can_lead(children: dict[str, Child]) -> bool:
    with redis.Redis(port=children["sentinel 1"].port) as sentinel:
        known = sentinel.sentinel_slaves(SERVICE)
    return sorted(int(replica["slave-priority"]) for replica in known) == [0, 100]


async def test_writer_and_reader_follow_when_the_primary_dies(
    children: dict[str, Child], settings: RedisSettings, namespace: str
) -> None:
    store, reader = OnlineStore(settings, namespace), OnlineReader(settings, namespace)
    records = placed([view("a"), view("b")])
    store.apply(records[:1])
    assert store.advance({"t:0": CheckpointMove(-1, 1)})
    until(lambda: store.durability({"t:0": 1}) is Durability.SAFE)
    assert isinstance(await reader.visitor("u"), VisitorState)
    dead = primary(children)
    assert dead is not None
    children[dead].kill()
    until(lambda: primary(children) not in (None, dead), lambda: views(children))

    def applied() -> bool:
        try:
            assert store.checkpoints(["t:0"]) == {"t:0": 1}
            return bool(store.apply(records))
        except StoreUnavailableError:
            return False

    until(applied)
    state = await reader.visitor("u")
    assert state is not None
    assert state.counts == {"view": 2}
    assert connect(settings).info("replication")["role"] == "master"
    store.close()
    await reader.aclose()


async def test_ids_are_doubted_where_a_server_takes_over_again_that_knows_the_script(
    children: dict[str, Child],
    settings: RedisSettings,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("slipstream.stores.admission_store.LIMIT_S", 5.0)
    store = AdmissionStore(settings, namespace, window_ms=HOUR_MS)

    async def code(name: str) -> int:
        key = store.message_key("shop", "", name)
        (verdict,) = await store.judge([AdmissionQuery("shop", [key], [None])])
        store._not_before = 0.0
        return verdict.codes[0]

    async def code_once_it_answers(name: str) -> int:
        verdict = await code(name)
        while store._away:
            verdict = await code(name)
        return verdict

    assert await code("m-0") == FIRST
    with redis.Redis(port=children["redis 3"].port) as client:
        client.config_set("replica-priority", 0)  # never promoted
    until(lambda: only_two_can_lead(children))
    # The second time the roles change twice, unseen by this store.
    for times in (1, 2):
        for _ in range(times):
            promote_another(children)
        assert await code_once_it_answers(f"m-{times}") == PENDING
        # Five minutes later, as it were.
        with connect(settings) as client:
            client.delete(f"{{{namespace}:admission}}:gap")
        assert await code(f"later-{times}") == FIRST
    assert primary(children) == "redis 2"
    await store.aclose()
