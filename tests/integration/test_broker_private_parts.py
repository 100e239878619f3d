"""The private parts of kafka-python that `slipstream/broker/client.py` and
`consumer_client.py` use, by name and shape.

A release that renames or reshapes one of them fails here, before anything hangs or is lost.
"""

import ast
import inspect
import re
import time
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.producer.producer_batch import ProducerBatch
from kafka.producer.transaction_manager import TransactionState
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecordsBuilder

from slipstream.broker import client, consumer_client
from slipstream.broker.client import ProducerClient, RecordBatchBuilder, encoded_headers
from slipstream.broker.consumer_client import ConsumerClient
from slipstream.broker.kafka import consumer_arguments, producer_arguments
from slipstream.chassis.settings import KafkaSettings

PLACE = TopicPartition("t", 0)
Check = Callable[[Any], bool]


def takes(*parameters: str) -> Check:
    """A check that a function can be called with these parameters alone, its first ones."""

    def check(function: Any) -> bool:
        signature = inspect.signature(function)
        signature.bind(*parameters)
        return tuple(signature.parameters)[: len(parameters)] == parameters

    return check


def is_lock(made: Any) -> bool:
    with made:
        return bool(made.locked())


def counts(counter: Any) -> bool:
    counter.increment()
    return counter.decrement() == 0 and not int(counter.get())


PRODUCER: dict[str, Check] = {
    "_sender._can_split": takes("batch", "error"),
    "_sender.add_topic": takes("topic"),
    "_sender.wakeup": takes(),
    "_sender.force_close": takes(),
    "_sender.is_alive": lambda is_alive: is_alive() is True,
    "_metadata.partitions_for_topic": lambda ask: ask("nowhere") is None,
    "_metadata.request_update": takes(),
    "_metadata.topic_id": lambda ask: ask("nowhere") is None,
    "_accumulator._appends_in_progress": counts,
    "_accumulator._tp_lock": lambda lock_of: is_lock(lock_of(PLACE)),
    "_accumulator._closed": lambda closed: closed is False,
    "_accumulator._batches": lambda batches: not batches[PLACE] and callable(batches[PLACE].append),
    "_accumulator._incomplete": lambda incomplete: takes("batch")(incomplete.add),
    "_transaction_manager._current_state": lambda state: isinstance(state, TransactionState),
    "_transaction_manager.has_producer_id": lambda has: isinstance(has(), bool),
    "_transaction_manager.has_fatal_error": lambda has: has() is False,
    "_unregister_cleanup": takes(),
    "_closed": lambda closed: closed is False,
}
CONSUMER: dict[str, Check] = {
    "_coordinator.need_rejoin": takes(),
    "_coordinator._join_task": lambda task: task is None,
    "_coordinator.join_group_async": takes("timeout_ms"),
    "_coordinator.stable": lambda stable: stable() is False,
    "_coordinator.heartbeat.last_receive": lambda at: isinstance(at, float),
    "_coordinator.heartbeat.last_reset": lambda at: 0 <= time.monotonic() - at < 600,
    "_coordinator.fetch_committed_offsets": takes("partitions", "timeout_ms"),
    "_coordinator.fetch_committed_offsets_async": takes("partitions", "timeout_ms"),
    "_coordinator.refresh_committed_offsets_if_needed_async": takes("timeout_ms"),
    "_subscription.missing_fetch_positions": takes(),
    "_subscription.request_offset_reset": takes("partition"),
    "_subscription.seek": takes("partition", "offset"),
    "_subscription.assignment": lambda states: isinstance(states, Mapping) and not states,
    "_subscription.assign_from_subscribed": takes("assignments"),
    "_cluster.topic_id": lambda ask: ask("nowhere") is None,
    "_cluster.partitions_for_topic": lambda ask: ask("nowhere") is None,
    "_cluster.set_topics": takes("topics"),
    "_cluster.request_update": takes(),
    "_fetcher._append": takes("drained", "part", "max_records", "update_offsets"),
    "_fetcher.config": lambda config: config["fetch_max_wait_ms"] == 20,
    "_net.run": takes("coro"),
    "_manager.call_soon": takes("coro"),
    "_manager.wait_for": takes("future", "timeout_ms"),
    "_manager._conns": lambda connections: isinstance(connections, dict),
}
# Parts of a builder of record batches.
BUILDER = {"_batch_size", "_buffer", "_first_timestamp"}
BUILDER |= {"_last_offset", "_max_timestamp", "_num_records"}
# Parts of no client: of a batch of records, and of the admin client's class.
OTHERS = {"_record_futures", "_builder", "_process_acl_operations", *BUILDER}
# Parts of both modules that are ours.
OUR_OWN = {"_moved", "_resume", "_name", "_varint"}


@pytest.fixture(scope="module")
def producer(broker: KafkaSettings) -> Iterator[ProducerClient]:
    made = ProducerClient(**producer_arguments(broker))
    yield made
    made.close(5)


@pytest.fixture
def consumer(broker: KafkaSettings) -> Iterator[ConsumerClient]:
    made = ConsumerClient(
        max_poll_bytes=broker.max_poll_bytes,
        **consumer_arguments(broker, "private-parts", 100),
    )
    yield made
    made.close()


@pytest.mark.parametrize("part", PRODUCER)
def test_a_producer_has(producer: ProducerClient, part: str) -> None:
    assert PRODUCER[part](attrgetter(part)(producer)), f"{part} has another shape"


@pytest.mark.parametrize("part", CONSUMER)
def test_a_consumer_has(consumer: ConsumerClient, part: str) -> None:
    assert CONSUMER[part](attrgetter(part)(consumer)), f"{part} has another shape"


@pytest.mark.parametrize("state", ["INITIALIZING", "BUMPING_PRODUCER_EPOCH", "READY"])
def test_a_transaction_manager_has_the_state(state: str) -> None:
    assert state in TransactionState.__members__


def test_a_partitions_state_has_its_position_and_its_end(consumer: ConsumerClient) -> None:
    consumer.assign([PLACE])
    state = dict(consumer._subscription.assignment)[PLACE]
    assert (state.position, state.highwater) == (None, None)
    consumer.seek(PLACE, 7)
    assert state.position.offset == 7


def test_a_batch_takes_records_and_settles_one_future_for_all() -> None:
    records = MemoryRecordsBuilder(2, 0, 1_024)
    assert type(records._builder) is DefaultRecordBatchBuilder
    records._builder = RecordBatchBuilder(2, 0, False, -1, -1, -1, 1_024)
    batch = ProducerBatch(PLACE, records, now=time.monotonic())
    headers = encoded_headers([("h", b"x")])
    assert batch.records.append(None, b"k", b"v", headers) is not None
    assert batch.records.append(None, b"k", bytes(2_000), headers) is None, "it is full"
    assert batch._record_futures == []
    future = batch.produce_future
    assert not future.is_done
    batch.complete(5, 1_000)
    assert future.is_done and future.exception is None
    offset, timestamp, failure = future.value
    assert (offset, timestamp, failure) == (5, 1_000, None)


def test_a_batch_that_fails_says_so_in_its_futures_value() -> None:
    batch = ProducerBatch(PLACE, MemoryRecordsBuilder(2, 0, 1_024), now=time.monotonic())
    batch.records.append(None, b"k", b"v", [])
    failure = ValueError("no")
    batch.abort(failure)
    future = batch.produce_future
    assert future.is_done
    assert (future.exception or future.value[2](0)) is failure


def test_a_builder_of_record_batches_keeps_what_ours_counts() -> None:
    assert {*DefaultRecordBatchBuilder.__slots__} >= BUILDER


def test_the_admin_client_decodes_operations_in_a_method_of_its_own() -> None:
    assert takes("self", "obj")(KafkaAdminClient._process_acl_operations)


def test_every_private_part_that_is_used_is_checked_here() -> None:
    nodes = [
        node
        for module in (client, consumer_client)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
    ]
    accessed = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    used = {name for name in accessed | defined if re.match("_[^_]", name)} - OUR_OWN
    parts = {name for part in (*PRODUCER, *CONSUMER) for name in part.split(".")} | OTHERS
    assert used == {name for name in parts if name.startswith("_")}
