"""What a request may become is known before anything is made of it."""

import gzip
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.ingestion import segment
from services.ingestion.budgets import MOST_ADDRESSES, SHARED, AddressBudget, Budgets
from services.ingestion.settings import PrivacySettings
from slipstream.broker.records import encode
from slipstream.chassis.errors import TooLargeError
from slipstream.contracts.events import Record
from tests.unit.ingestion.collector import AUTH, Acknowledging, collecting
from tests.unit.ingestion.payloads import CALLS, messages, track

NO_LIMIT = Budgets(event_records=10**9, request_records=10**9, request_bytes=10**12)


@pytest.fixture(scope="module")
def client(producer: Acknowledging) -> Iterator[TestClient]:
    with collecting(producer) as client:
        yield client


def order(products: int, **properties: Any) -> dict[str, Any]:
    return track("Order Completed", {"products": [7] * products, **properties})


def packed(batch: list[Any]) -> bytes:
    return gzip.compress(orjson.dumps({"batch": batch}), mtime=0)


def sent(client: TestClient, producer: Acknowledging, body: bytes) -> tuple[int, str, int]:
    """Status, detail, and the number of records that were published."""
    producer.published.clear()
    headers = {"Content-Encoding": "gzip"}
    answer = client.post("/v1/batch", content=body, headers=headers, auth=AUTH)
    return answer.status_code, answer.json().get("detail", ""), len(producer.published)


def made_nothing(*_arguments: Any) -> None:
    raise AssertionError("a record was made")


def test_a_small_body_makes_no_more_records_than_a_request_may(
    client: TestClient, producer: Acknowledging, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = packed([order(500)] * 100)
    assert len(body) < 3_000
    monkeypatch.setattr(segment, "read_interactions", made_nothing)
    status, detail, records = sent(client, producer, body)
    assert (status, records) == (413, 0)
    assert "50100 records" in detail and "SLIPSTREAM_INGESTION__MAX_REQUEST_RECORDS" in detail


def test_a_small_body_has_no_more_bytes_than_a_request_may(
    client: TestClient, producer: Acknowledging, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = dict.fromkeys(SHARED, "x" * 256)
    message = order(480, **long) | {"userId": "u" * 256, "anonymousId": "a" * 256}
    body = packed([message] * 20)
    monkeypatch.setattr(segment, "read_interactions", made_nothing)
    status, detail, records = sent(client, producer, body)
    assert (status, records) == (413, 0) and len(body) < 3_000
    assert "SLIPSTREAM_INGESTION__MAX_REQUEST_BYTES" in detail


def test_an_event_with_too_many_records_is_rejected_alone(
    client: TestClient, producer: Acknowledging
) -> None:
    shown = order(250, impressions=["i"] * 251)
    answer = client.post(
        "/v1/batch", json={"batch": [order(500), order(501), shown]}, auth=AUTH
    ).json()
    first, *others = answer["results"]
    assert first["status"] == "accepted"
    for verdict in others:
        assert verdict["code"] == "event_too_large"
        assert "SLIPSTREAM_INGESTION__MAX_EVENT_RECORDS" in verdict["reason"]


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        (track(properties={"sku": "a", "in": [[[[[]]]]]}), "MAX_EVENT_DEPTH"),
        (track(properties={"sku": "a", "text": "x" * 2_000}), "MAX_EVENT_BYTES"),
    ],
)
def test_verdict_names_the_setting(message: Any, setting: str) -> None:
    with collecting(Acknowledging(), max_event_depth=5, max_event_bytes=1_000) as client:
        verdict = client.post("/v1/track", json=message, auth=AUTH).json()["results"][0]
    assert verdict["status"] == "rejected" and f"SLIPSTREAM_INGESTION__{setting}" in str(verdict)


@pytest.mark.parametrize(
    ("body", "setting"),
    [
        ({"batch": [track()] * 21}, "MAX_BATCH_EVENTS"),
        ({"batch": [], "more": "x" * 30_000}, "MAX_BODY_BYTES"),
    ],
)
def test_problem_names_the_setting(body: Any, setting: str) -> None:
    with collecting(Acknowledging(), max_batch_events=20, max_body_bytes=20_000) as client:
        answer = client.post("/v1/batch", json=body, auth=AUTH)
    assert answer.status_code == 413
    assert f"SLIPSTREAM_INGESTION__{setting}" in answer.json()["detail"]


def test_hashes_that_are_longer_than_their_values_count() -> None:
    producer = Acknowledging()
    privacy = PrivacySettings(hash_fields="email", hash_key=SecretStr("pepper"))
    message = track(properties={"sku": "a", "email": [1] * 10_000})
    with collecting(producer, privacy, max_request_bytes=1_000_000) as client:
        assert client.post("/v1/track", json=message, auth=AUTH).status_code == 200
        answer = client.post("/v1/batch", json={"batch": [message] * 2}, auth=AUTH)
    assert answer.status_code == 413 and "MAX_REQUEST_BYTES" in answer.json()["detail"]
    assert len(producer.published) == 1


numbers = st.sampled_from([1e15, -1e15, 1e22, 5e-324, 0, 7, 2**63, True])
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=4) | st.sampled_from(
    ["\x01" * 40, "ü" * 100, '"\\' * 60]
)
products = st.lists(
    texts.filter(bool)
    | st.fixed_dictionaries({"sku": texts.filter(bool)}, optional={"price": numbers, "x": texts}),
    max_size=12,
)
orders = st.fixed_dictionaries(
    {
        "type": st.sampled_from(CALLS),
        "event": st.sampled_from(["Order Completed", "Product List Viewed", "x"]),
        "properties": st.fixed_dictionaries(
            {},
            optional={
                "products": products,
                "impressions": products,
                "recommendation_id": texts,
                "session_id": texts,
                "item_id": texts,
                **dict.fromkeys(SHARED, texts | numbers),
            },
        ),
    },
    optional={
        "userId": texts,
        "anonymousId": texts,
        "messageId": texts,
        "category": texts,
        "context": st.fixed_dictionaries({"sessionId": texts}),
        "traits": st.dictionaries(texts, numbers | texts, max_size=3),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[*HealthCheck])
@given(st.lists(orders | messages, max_size=6), st.booleans())
def test_a_request_never_becomes_more_than_was_counted(
    client: TestClient, producer: Acknowledging, batch: list[Any], around: bool
) -> None:
    producer.published.clear()
    body = {"batch": batch} | ({"context": {"sessionId": "s" * 256}} if around else {})
    raw = orjson.dumps(body)
    client.post("/v1/batch", content=raw, auth=AUTH)
    records = [outgoing.record for outgoing in producer.published]
    sizes = [len(encode(record)) for record in records if isinstance(record, Record)]
    with pytest.raises(TooLargeError) as counted:
        Budgets(request_records=-1).refuse_request(batch, len(raw), body.get("context"))
    assert len(records) <= int(counted.value.detail.split("up to ")[1].split()[0])
    with pytest.raises(TooLargeError) as counted:
        Budgets(request_bytes=-1).refuse_request(batch, len(raw), body.get("context"))
    assert sum(sizes) <= int(counted.value.detail.split("up to ")[1].split()[0])
    NO_LIMIT.refuse_request(batch, len(raw), body.get("context"))


KIB = 1024


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_address_waits_until_its_debt_is_below_the_burst(clock: Clock) -> None:
    budget = AddressBudget(100, 1_000, clock)
    budget.charge("198.51.100.7", 999 * KIB)
    assert not budget.exhausted("198.51.100.7")  # credit is left: the next one is let in
    budget.charge("198.51.100.7", 499 * KIB)
    assert budget.exhausted("198.51.100.7") and not budget.exhausted("198.51.100.8")
    refusal = budget.refusal("198.51.100.7")
    assert (refusal.status, refusal.headers["Retry-After"]) == (429, "5")
    clock.now += 4.9
    assert budget.exhausted("198.51.100.7")
    clock.now += 0.2
    assert not budget.exhausted("198.51.100.7")


def test_each_request_costs_a_kib_however_small(clock: Clock) -> None:
    budget = AddressBudget(1, 10, clock)
    for _ in range(10):
        assert not budget.exhausted("a")
        budget.charge("a", 1)
    budget.charge("a", 1)
    assert budget.exhausted("a")


def test_a_household_has_one_budget(clock: Clock) -> None:
    budget = AddressBudget(1, 1, clock)
    budget.charge("2001:db8:1:2:aaaa::1", 5 * KIB)
    assert budget.exhausted("2001:db8:1:2:bbbb::9") and not budget.exhausted("2001:db8:1:3::1")
    budget.charge("::ffff:198.51.100.7", 5 * KIB)
    assert budget.exhausted("198.51.100.7")


def test_without_a_rate_nothing_is_refused(clock: Clock) -> None:
    budget = AddressBudget(0, 1, clock)
    budget.charge("a", 10**9)
    assert not budget.exhausted("a")


def test_the_number_of_addresses_is_bounded(clock: Clock) -> None:
    budget = AddressBudget(1, 1, clock)
    for number in range(MOST_ADDRESSES + 1):
        budget.charge(f"old-{number}", 0)
    clock.now += 10
    for number in range(2 * MOST_ADDRESSES):
        budget.charge(f"new-{number}", 9 * KIB)
    assert not budget.exhausted("old-1") and not budget.exhausted("new-1")
    assert budget.exhausted(f"new-{2 * MOST_ADDRESSES - 1}")
