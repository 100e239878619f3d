"""Rates of write keys and visitors, on a real broker and a real Redis."""

import time
from typing import Any

from pydantic import SecretStr

from slipstream.chassis.access.page_tokens import signed_user
from slipstream.chassis.settings import KafkaSettings, RedisSettings
from slipstream.contracts.topics import INTERACTIONS, PEOPLE
from tests.integration.test_ingestion import AUTH, records, track
from tests.integration.test_ingestion_admission import ingestion, verdicts
from tests.integration.test_ingestion_admission import patient_store as patient_store


def test_write_key_above_its_rate_is_answered_with_429(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    with ingestion(broker, redis_settings, namespace, key_events_per_s=0.01, key_burst=3) as client:
        batch = {"batch": [track("ada", "a", f"m-{n}") for n in range(3)]}
        assert client.post("/v1/batch", json=batch, auth=AUTH).status_code == 200
        refused = client.post("/v1/batch", json={"batch": [track("ada", "a", "m-3")]}, auth=AUTH)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 0 < int(refused.headers["retry-after"]) <= 100
        assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]
        assert (refused.headers["ratelimit-limit"], refused.headers["ratelimit-remaining"]) == (
            "3",
            "0",
        )
    assert len(records(broker, namespace, INTERACTIONS, 3)) == 3


def test_visitor_above_its_rate_is_refused_alone(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    with ingestion(
        broker, redis_settings, namespace, visitor_events_per_s=0.01, visitor_burst=2
    ) as client:
        messages = [
            track("ada", "a", "m-0"),
            track("ada", "a", "m-1"),
            track("ada", "a", "m-2"),
            track("bob", "a", "m-3"),
        ]
        answer = client.post("/v1/batch", json={"batch": messages}, auth=AUTH).json()
        assert [(r["status"], r.get("code")) for r in answer["results"]] == [
            ("accepted", None),
            ("accepted", None),
            ("rejected", "rate_limited"),
            ("accepted", None),
        ]
        single = client.post("/v1/track", json=track("ada", "a", "m-4"), auth=AUTH)
        assert (single.status_code, int(single.headers["retry-after"]) > 0) == (429, True)
        # An accepted message is a duplicate, whatever the rate says; a refused one is not known.
        time.sleep(0.3)
        again = client.post(
            "/v1/batch", json={"batch": [messages[0], messages[2]]}, auth=AUTH
        ).json()
        assert [r["status"] for r in again["results"]] == ["duplicate", "rejected"]
        history = client.post(
            "/v1/import", json={"batch": [track("ada", "a", "m-5")]}, auth=AUTH
        ).json()
        assert history["accepted"] == 1


def test_a_page_s_key_is_charged_by_records(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    def order(user: str, products: int) -> dict[str, Any]:
        return {
            "userId": user,
            "event": "Order Completed",
            "properties": {"products": ["p"] * products},
        }

    page = ("in-the-page", "")
    limits = {
        "browser_keys": SecretStr(f"page:{page[0]}"),
        "browser_key_records_per_s": 0.01,
        "browser_key_burst": 30,
        "browser_visitor_records_per_s": 0.01,
        "browser_visitor_burst": 12,
    }
    with ingestion(broker, redis_settings, namespace, **limits) as client:

        def answered(auth: tuple[str, str], *orders: tuple[str, int]) -> int | list[str]:
            batch = [{"type": "track", **order(*each)} for each in orders]
            answer = client.post("/v1/batch", json={"batch": batch}, auth=auth)
            return verdicts(answer) if answer.status_code == 200 else answer.status_code

        assert answered(page, ("ada", 8), ("ada", 5), ("bob", 9)) == [
            "accepted", "rejected", "accepted",
        ]  # fmt: skip
        assert answered(page, ("eve", 9)) == 429
        assert answered(AUTH, ("ada", 100), ("ada", 100)) == ["accepted"] * 2


def test_a_user_gains_so_many_visitors_an_hour_by_pages(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    page = ("in-the-page", "")

    def link(visitor: str, user: str = "u", **context: str) -> dict[str, Any]:
        ids = {"userId": user, "anonymousId": visitor}
        return {"type": "identify", **ids, "context": context}

    with ingestion(
        broker,
        redis_settings,
        namespace,
        browser_keys=SecretStr(f"page:{page[0]}"),
        browser_links_per_user=3,
    ) as client:

        def codes(*messages: dict[str, Any], auth: tuple[str, str] = page) -> list[str | None]:
            body = {"batch": list(messages)}
            answer = client.post("/v1/batch", json=body, auth=auth).json()
            return [result.get("code") for result in answer["results"]]

        many = "too_many_links"
        assert codes(*(link(f"a{n}") for n in range(5))) == [None] * 3 + [many] * 2
        assert codes(link("a1"), link("a4"), link("a2")) == [None, many, None], "known ones go on"
        assert codes(link("a4", "v"), track("u", "a", "m-0")) == [None, None]
        tokens = {
            visitor: signed_user(AUTH[0], "u", visitor, 600) for visitor in ("p0", "p1", "p2", "p3")
        }
        proven = [link(visitor, userToken=token) for visitor, token in tokens.items()]
        assert codes(*proven) == [None] * 3 + [many], "a flood leaves room for those with a proof"
        assert codes(*(link(f"s{n}") for n in range(5)), auth=AUTH) == [None] * 5
        single = client.post("/v1/identify", json=link("a9"), auth=page)
        assert single.status_code == 200
        assert "server's key" in single.json()["results"][0]["reason"]
    assert len(records(broker, namespace, PEOPLE, 14)) == 14


def test_links_of_a_page_s_key_to_many_users_have_a_rate(
    broker: KafkaSettings, redis_settings: RedisSettings, namespace: str
) -> None:
    page = ("in-the-page", "")

    def codes(numbers: range, auth: tuple[str, str] = page) -> list[str | None]:
        links = [{"type": "identify", "userId": f"u{n}", "anonymousId": f"a{n}"} for n in numbers]
        answer = client.post("/v1/batch", json={"batch": links}, auth=auth).json()
        return [result.get("code") for result in answer["results"]]

    with ingestion(
        broker, redis_settings, namespace, browser_keys=SecretStr(f"page:{page[0]}")
    ) as client:
        told = codes(range(400))
        assert set(told[:200]) == {None}
        assert told.count("rate_limited") >= 150, "the script may have taken a moment"
        assert set(codes(range(200))) == {None}, "known ones go on"
        assert set(codes(range(1_000, 1_400), auth=AUTH)) == {None}, "servers have no such rate"


def test_a_flood_of_links_does_not_pass_while_redis_is_away(
    broker: KafkaSettings, namespace: str
) -> None:
    away = RedisSettings(url=SecretStr("redis://127.0.0.1:1/0"), timeout_s=0.1)
    links = [{"type": "identify", "userId": f"u{n}", "anonymousId": f"a{n}"} for n in range(400)]
    keys = {"browser_keys": SecretStr("page:in-the-page")}
    with ingestion(broker, away, namespace, **keys) as client:
        answer = client.post("/v1/batch", json={"batch": links}, auth=("in-the-page", "")).json()
        codes = [result.get("code") for result in answer["results"]]
        assert codes == [None] * 200 + ["rate_limited"] * 200
        servers = client.post("/v1/batch", json={"batch": links}, auth=AUTH).json()
        assert servers["accepted"] == 400
