"""What a server is asked to wait for follows from what it has."""

from typing import Any

import pytest

from slipstream.stores.checkpoints import _confirms, _waits


@pytest.mark.parametrize(
    ("facts", "waits"),
    [
        ({"redis_version": "8.0.2", "aof_enabled": 1}, ["WAITAOF"]),
        # Valkey 9 names the version of Redis that it is compatible with.
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2", "aof_enabled": 1}, ["WAITAOF"]),
        ({"redis_version": "7.0.15", "aof_enabled": 1}, []),
        ({"redis_version": "7.0.15", "aof_enabled": 1, "connected_slaves": 2}, ["WAIT"]),
        ({"redis_version": "8.0.2", "aof_enabled": 1, "connected_slaves": 1}, ["WAITAOF", "WAIT"]),
        ({"redis_version": "8.0.2", "aof_enabled": 0, "connected_slaves": 0}, []),
        ({}, []),
    ],
)
def test_a_server_waits_for_the_file_and_the_replica_that_it_has(
    facts: dict[str, Any], waits: list[str]
) -> None:
    assert [command[0] for command in _waits(facts).values()] == waits


def test_a_refusal_and_a_count_of_none_confirm_nothing() -> None:
    # WAITAOF answers with this server's count and its replicas', WAIT with one count.
    assert [_confirms(answer) for answer in ([1, 0], 1, 2)] == [True] * 3
    assert not any(_confirms(answer) for answer in ([0, 1], 0, ValueError("refused")))
