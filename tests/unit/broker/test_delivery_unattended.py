"""Records that no caller waits for, with a client that answers on request."""

from slipstream.broker.delivery import Delivery, OutgoingRecord, UnattendedDelivery
from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.contracts.topics import INTERACTIONS
from tests.unit.broker.test_delivery import Client

RECORD = OutgoingRecord(INTERACTIONS, "ada", b"x" * 100)


def a_delivery(max_bytes: int = 1_000) -> tuple[UnattendedDelivery, list[Exception]]:
    troubles: list[Exception] = []
    delivery = Delivery(
        {INTERACTIONS.name: "t"},
        60.0,
        max_bytes=max_bytes,
        doubt=lambda: None,
        failed=troubles.append,
    )
    return UnattendedDelivery(delivery, max_bytes), troubles


def test_records_beyond_the_limit_fail_at_once_until_the_broker_answers() -> None:
    client, (unattended, troubles) = Client(), a_delivery()
    unattended.hand_over(client, [RECORD] * 12)  # type: ignore[arg-type]
    assert (len(client.answers), unattended.failures, len(troubles)) == (10, 2, 2)
    for answer in client.answers:
        answer.give()
    assert unattended.failures == 2
    unattended.hand_over(client, [RECORD] * 10)  # type: ignore[arg-type]
    assert (len(client.answers), unattended.failures) == (20, 2)


def test_a_batch_that_fails_counts_its_records() -> None:
    client, (unattended, troubles) = Client(), a_delivery()
    unattended.hand_over(client, [RECORD] * 3)  # type: ignore[arg-type]
    fine, refused, late = client.answers
    refused.value = (0, 0, lambda _: TimeoutError("expired"))
    late.exception = ConnectionError("gone")
    for answer in (fine, refused, late):
        answer.give()
    assert unattended.failures == 2
    assert [str(error) for error in troubles] == ["expired", "gone"]


def test_one_record_that_cannot_be_encoded_fails_alone() -> None:
    client, (unattended, troubles) = Client(), a_delivery()
    broken = OutgoingRecord(INTERACTIONS, "\ud800", b"x")
    unattended.hand_over(client, [RECORD, broken, RECORD])  # type: ignore[arg-type]
    assert (len(client.answers), unattended.failures, troubles) == (2, 1, [])


def test_unknown_partitions_fail_the_records_without_a_wait() -> None:
    client, (unattended, troubles) = Client(), a_delivery()
    client.partitions_known = lambda _topic: 0  # type: ignore[method-assign]
    unattended.hand_over(client, [RECORD] * 2)  # type: ignore[arg-type]
    assert (client.answers, unattended.failures) == ([], 2)
    assert {type(error) for error in troubles} == {BrokerUnavailableError}
