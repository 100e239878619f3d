"""The connection to the broker, and the partition of a key."""

import asyncio
import socket
from typing import Any, Final

import pytest

from slipstream.broker.kafka import BrokerUnavailableError, partition_of, reachable
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.item_patches import patch_key


def settings(*ports: int) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=",".join(f"127.0.0.1:{port}" for port in ports))


async def test_a_broker_that_answers_is_reachable(broker: KafkaSettings) -> None:
    await reachable(broker, timeout_s=60)


async def test_a_broker_that_hangs_is_not_though_the_kernel_accepts_connections_for_it(
    broker: KafkaSettings,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        with pytest.raises(BrokerUnavailableError, match=r"no answer within 0\.1 s"):
            await reachable(settings(port), timeout_s=0.1)
        # So long it waits for the one that hangs, too.
        await reachable(
            settings(port, int(broker.bootstrap_servers.rpartition(":")[2])), timeout_s=5
        )


async def test_something_else_on_the_port_is_not() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        with pytest.raises(BrokerUnavailableError, match="the server there is no Kafka broker"):
            await reachable(settings(server.sockets[0].getsockname()[1]), timeout_s=60)


async def test_nothing_on_the_port_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    with pytest.raises(BrokerUnavailableError, match="no Kafka broker answers"):
        await reachable(settings(port))


SHAPES: Final[tuple[dict[str, Any], ...]] = (
    {"price": 1},
    {"price": {}},
    {"price": {"net": 1}},
    {"stock": None},
)


def test_patches_of_an_item_are_in_its_partition_under_keys_of_their_own() -> None:
    for number in range(50):
        keys = {
            patch_key(
                CatalogRecord(
                    entity="item_patch",
                    entity_id=f"sku-{number}",
                    timestamp=1,
                    available=available,
                    attributes=attributes,
                )
            )
            for available in (None, True)
            for attributes in SHAPES
        }
        assert len(keys) == 8
        item = partition_of(f"item:sku-{number}".encode(), 12)
        assert {partition_of(key.encode(), 12) for key in keys} == {item}
