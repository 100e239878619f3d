"""Commands of a pipeline by the node of their key, and answers in the order of the commands."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from structlog.testing import capture_logs

from slipstream.stores.cluster_clients import BlockingCluster, ClusterPipeline, Command, Settlement
from slipstream.stores.connection import Scripts
from slipstream.stores.layout import Keys


class Echoes:
    """Nodes by the last character of a key, which answer with their name and the command."""

    def owners(self, keys: Iterable[str]) -> list[str]:
        return [key[-1] for key in keys]

    def ask(self, commands: Mapping[str, Sequence[Command]]) -> dict[str, list[Any]]:
        return {name: [(name, each) for each in theirs] for name, theirs in commands.items()}


@given(keys=st.lists(st.from_regex(r"k[0-9]{1,3}", fullmatch=True)))
def test_answers_come_in_the_order_of_the_commands_from_the_node_of_each_key(
    keys: list[str],
) -> None:
    pipeline, sent = ClusterPipeline(cast(BlockingCluster, Echoes())), list[Command]()
    for number, key in enumerate(keys):
        if number % 2:
            pipeline.execute_command("EVALSHA", "sha", 1, key, "argument")
            sent.append(("EVALSHA", "sha", 1, key, "argument"))
        else:
            pipeline.hmget(key, "a", "b")
            sent.append(("HMGET", key, "a", "b"))
    assert pipeline.execute() == [
        (key[-1], command) for key, command in zip(keys, sent, strict=True)
    ]
    assert pipeline.execute() == []


class Refusals(Echoes):
    def ask(self, commands: Mapping[str, Sequence[Command]]) -> dict[str, list[Any]]:
        return {name: [NoScriptError("no")] * len(theirs) for name, theirs in commands.items()}


def test_a_refusal_is_raised_or_returned() -> None:
    pipeline = ClusterPipeline(cast(BlockingCluster, Refusals()))
    pipeline.pexpire("a", 1)
    with pytest.raises(NoScriptError):
        pipeline.execute()
    pipeline.hget("a", "b")
    (answer,) = pipeline.execute(raise_on_error=False)
    assert isinstance(answer, NoScriptError)


NODES = ("one", "two", "three")
WRITTEN, ON_DISK, NOT_ON_DISK, NO_FILE = 1, [1, 0], [0, 0], ResponseError("appendonly is disabled")


def role(replicas: int) -> list[Any]:
    """The answer to ROLE of a primary with so many replicas."""
    return [b"master", 100, [[b"127.0.0.1", b"6379", b"100"]] * replicas]


@dataclass
class FakeNode:
    aof_enabled: int
    connected_slaves: int
    fsync: str

    def info(self) -> dict[str, int]:
        return {"aof_enabled": self.aof_enabled, "connected_slaves": self.connected_slaves}

    def config_get(self, name: str) -> dict[str, str]:
        if not self.fsync:
            raise ResponseError("no permission")
        return {name: self.fsync}


class FakeCluster:
    """Three nodes with a third of the slots each; `answers` are what they say, round by round."""

    def __init__(self, *answers: Mapping[str, Sequence[Any]]) -> None:
        self._answers = list(answers)
        self.asked: list[Mapping[str, Sequence[Command]]] = []
        self.map = {slot: [SimpleNamespace(name=NODES[slot % 3])] for slot in range(16_384)}
        self.nodes = {name: FakeNode(1, 0, "always") for name in NODES}

    def primaries(self) -> Any:
        return self.nodes

    def slots(self) -> Any:
        return self.map

    def owners(self, keys: Sequence[str]) -> list[str]:
        return [str(self.map[sum(key.encode())][0].name) for key in keys]

    def ask(
        self, commands: Mapping[str, Sequence[Command]], wait_s: float
    ) -> dict[str, Sequence[Any]]:
        assert wait_s > 0
        self.asked.append(commands)
        answers = self._answers.pop(0)
        return {name: answers.get(name, [WRITTEN, ON_DISK, role(0)]) for name in commands}


def reach(cluster: FakeCluster) -> Settlement:
    settlement = Settlement(cast(BlockingCluster, cluster), Keys("shop"))
    settlement.reach("sha")
    return settlement


def names(commands: Sequence[Command]) -> list[str]:
    return [command[0] for command in commands]


def test_one_server_is_asked_nothing() -> None:
    Scripts(object(), Keys("shop")).settle()


def test_every_node_is_asked_for_its_disk_behind_a_write_of_a_key_that_it_has() -> None:
    cluster = FakeCluster({})
    reach(cluster)
    (asked,) = cluster.asked
    assert asked.keys() == set(NODES)
    for name, commands in asked.items():
        assert names(commands) == ["EVALSHA", "WAITAOF", "ROLE"]
        assert commands[0][1:3] == ("sha", 1)
        assert cluster.owners([commands[0][3]]) == [name]


def test_a_node_with_replicas_is_asked_for_all_of_them_from_then_on() -> None:
    cluster = FakeCluster(
        {"two": [WRITTEN, ON_DISK, role(2)]},
        {"two": [WRITTEN, ON_DISK, 2, role(2)]},
        {"two": [WRITTEN, ON_DISK, 2, role(2)]},
    )
    settlement = reach(cluster)
    settlement.reach("sha")
    assert [[*asked] for asked in cluster.asked] == [[*NODES], ["two"], [*NODES]]
    for asked in cluster.asked[1:]:
        assert names(asked["two"]) == ["EVALSHA", "WAITAOF", "WAIT", "ROLE"]
        assert asked["two"][2][1] == 2


def test_a_replica_that_left_is_not_waited_for_and_one_that_lags_is() -> None:
    follows = {"two": [WRITTEN, ON_DISK, role(2)]}
    reach(FakeCluster(follows, {"two": [WRITTEN, ON_DISK, 1, role(1)]}))
    with pytest.raises(RedisConnectionError, match="replica of two"):
        reach(FakeCluster(follows, {"two": [WRITTEN, ON_DISK, 1, role(2)]}))


def test_a_disk_that_is_late_is_a_failure_and_a_node_without_a_file_is_none() -> None:
    with pytest.raises(RedisConnectionError, match="disk of three"):
        reach(FakeCluster({"three": [WRITTEN, NOT_ON_DISK, role(0)]}))
    reach(FakeCluster({"three": [WRITTEN, NO_FILE, role(0)]}))
    reach(FakeCluster({"three": [WRITTEN, ON_DISK, ResponseError("no permission")]}))


def test_a_node_that_has_not_met_the_writer_is_a_failure() -> None:
    with pytest.raises(NoScriptError):
        reach(FakeCluster({"one": [NoScriptError("no"), ON_DISK, role(0)]}))


def test_nodes_that_took_slots_over_are_asked_too() -> None:
    cluster = FakeCluster({}, {})
    settlement = reach(cluster)
    cluster.map = {slot: [SimpleNamespace(name=f"new {slot % 2}")] for slot in range(16_384)}
    settlement.reach("sha")
    assert cluster.asked[1].keys() == {"new 0", "new 1"}


def test_the_log_tells_once_of_nodes_that_keep_nothing_or_slowly() -> None:
    cluster = FakeCluster({}, {})
    cluster.nodes["one"].aof_enabled = 0
    cluster.nodes["two"].fsync = "everysec"
    cluster.nodes["three"].fsync = ""
    with capture_logs() as logs:
        settlement = reach(cluster)
        cluster.map = dict(cluster.map)
        settlement.reach("sha")
    assert [(line["node"], line["event"].partition(": ")[2]) for line in logs] == [
        ("one", "set appendonly yes"),
        ("two", "set appendfsync always"),
    ]
