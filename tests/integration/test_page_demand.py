"""What pages' events add to the lists of demand and to what models learn from."""

import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.events import Interaction
from slipstream.contracts.positions import StreamInteraction
from slipstream.contracts.times import HOUR_MS
from slipstream.contracts.topics import INTERACTIONS
from slipstream.contracts.vocabulary import UNLEARNED_TTL_MS
from slipstream.features.item import neighbours_of
from slipstream.stores.admission_store import (
    UNLEARNED,
    AdmissionQuery,
    AdmissionStore,
    PageMessage,
    Rates,
)
from slipstream.stores.connection import connect
from slipstream.stores.layout import Keys
from slipstream.stores.online import OnlineStore, Retention
from tests.integration.test_ingestion import AUTH, records
from tests.integration.test_ingestion_admission import ingestion
from tests.integration.test_ingestion_admission import patient_store as patient_store

PAGE = ("in-the-page", "")


def said(event: str, visitor: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": event, "anonymousId": visitor, "properties": properties}


def stream(
    broker: KafkaSettings,
    redis: RedisSettings,
    namespace: str,
    *sent: tuple[tuple[str, str], list[dict[str, Any]]],
) -> list[Interaction]:
    """The events on the topic once these messages were sent, each list with its key."""
    accepted = 0
    with ingestion(
        broker,
        redis,
        namespace,
        browser_keys=SecretStr(f"page:{PAGE[0]}"),
        browser_visitor_burst=2_000,
    ) as client:
        for auth, messages in sent:
            for start in range(0, len(messages), 500):
                body = {"batch": messages[start : start + 500]}
                answer = client.post("/v1/batch", json=body, auth=auth).json()
                assert answer["rejected"] == 0, answer
                accepted += sum(
                    len(message["properties"].get("products", [None])) for message in body["batch"]
                )
    return [message.record for message in records(broker, namespace, INTERACTIONS, accepted)]


def placed(made: list[Interaction]) -> list[StreamInteraction]:
    return [StreamInteraction("t:0", offset, event) for offset, event in enumerate(made)]


def test_one_visitor_of_a_page_lifts_no_item_above_those_of_three_others(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    honest = [said("Product Viewed", f"v{n}", sku=f"i{n % 10}") for n in range(40)]
    attack = [
        *[said("Product Viewed", "evil", sku="repeated") for _ in range(1_000)],
        said("Order Completed", "evil", order_id="o", products=["ordered"] * 400),
        *[said("Dislike", "evil", sku="disliked") for _ in range(20)],
        *[said("Product Reviewed", "evil", sku="disliked", rating=0) for _ in range(20)],
        *[said("Product Viewed", "evil", sku="disliked", value=-1e9) for _ in range(20)],
    ]
    store.apply(placed(stream(broker, redis_settings, namespace, (AUTH, honest), (PAGE, attack))))
    for window in ("", "day"):
        trending = dict(store.trending(20, window))
        assert trending["repeated"] == pytest.approx(1.0, rel=1e-3)
        assert trending["ordered"] == pytest.approx(3.0, rel=1e-3)
        assert "disliked" not in trending
        assert {item for item, _ in store.trending(10, window)} == {f"i{n}" for n in range(10)}


def test_visitors_of_one_address_are_learned_from_up_to_a_budget(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    bought = [
        said("Order Completed", f"evil{n}", order_id=f"o{n}", products=["top", "evil"])
        for n in range(300)
    ]
    made = stream(broker, redis_settings, namespace, (PAGE, bought))
    store.apply(placed(made))
    assert Counter(event.unlearned for event in made) == {False: 6, True: 594}
    assert dict(store.trending(2)) == pytest.approx({"top": 9.0, "evil": 9.0}, rel=1e-3)
    (state,) = store.items(["top"])
    assert state is not None and state.counts == {"purchase": 3}
    (other, weight), *others = neighbours_of(state, made[-1].timestamp)
    assert (other, others) == ("evil", []) and weight == pytest.approx(3.0, rel=1e-3)
    itself = store.visitor("evil299")
    assert itself is not None and itself.counts == {"purchase": 2}


def test_a_servers_key_has_no_budget_but_counts_equal_products_once(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    made = stream(
        broker,
        redis_settings,
        namespace,
        (AUTH, [said("Order Completed", f"v{n}", products=["a", "b", "a"]) for n in range(20)]),
    )
    assert Counter((event.item_id, event.weight, event.unlearned) for event in made) == {
        ("a", None, False): 20, ("b", None, False): 20, ("a", 0.0, False): 20,
    }  # fmt: skip


def test_states_that_nothing_learns_from_live_for_a_short_time(
    redis_settings: RedisSettings, namespace: str, store: OnlineStore
) -> None:
    def view(user: str, item: str, *, unlearned: bool) -> Interaction:
        return Interaction(
            event_id=f"{user}{item}", event_type="view", user_id=user, item_id=item,
            timestamp=1, received_at=1, unlearned=unlearned,
        )  # fmt: skip

    store.apply(placed([view("known", "sold", unlearned=False)]))
    made = [view("known", "new", unlearned=True), view("flood", "sold", unlearned=True)]
    store.apply([StreamInteraction("t:1", offset, event) for offset, event in enumerate(made)])
    keys, redis = Keys(namespace), connect(redis_settings)
    lives = {
        name: redis.pttl(key)
        for name, key in {
            "flood": keys.visitor("flood"), "new": keys.item("new"),
            "known": keys.visitor("known"), "sold": keys.item("sold"),
        }.items()
    }  # fmt: skip
    redis.close()
    assert max(lives["flood"], lives["new"]) <= UNLEARNED_TTL_MS
    assert lives["known"] > Retention().visitor_ttl_ms - HOUR_MS
    assert lives["sold"] > Retention().item_ttl_ms - HOUR_MS


messages = st.lists(
    st.tuples(
        st.sampled_from("uvwx"),
        st.sampled_from("12"),
        st.booleans(),
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 3)) | st.just((None, 0)), max_size=3
        ),
    ),
    max_size=12,
)


@given(messages, st.integers(0, 2))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_gains_and_budgets_are_those_of_a_plain_count(
    redis_settings: RedisSettings,
    sent: list[tuple[str, str, bool, list[tuple[str | None, int]]]],
    most: int,
) -> None:
    store = AdmissionStore(redis_settings, f"t-{uuid.uuid4().hex}", window_ms=0)
    queries = [
        AdmissionQuery(
            "page", [None], [None], rates=Rates(new_visitors=most),
            pages={0: PageMessage(visitor, made, proven)}, network=network,
        )
        for visitor, network, proven, made in sent
    ]  # fmt: skip
    learned = [verdict.learned for verdict in await store.judge(queries)]
    await store.aclose()
    known: dict[str, dict[str, int]] = {}
    brought: Counter[str] = Counter()
    for (visitor, network, proven, made), codes in zip(sent, learned, strict=True):
        if visitor not in known and most and not proven:
            if brought[network] >= most:
                assert codes == bytes([UNLEARNED]) * len(made)
                continue
            brought[network] += 1
        weights, due = known.setdefault(visitor, {}), b""
        for item, weight in made:
            held = weights.get(item or "", 0)
            due += str(max(0, weight - held)).encode()
            weights[item or ""] = max(weight, held)
        assert codes == due
