"""Commands of a pipeline by the node of their key, and answers in the order of the commands."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError

from slipstream.stores.cluster_clients import BlockingCluster, ClusterPipeline, Command


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
