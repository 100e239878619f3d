"""Links, erasures, repeats and late events, from the topics to Redis and the lake."""

import random
from functools import partial
from unittest.mock import Mock

import pytest

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import GROUP, TOPICS
from slipstream.broker.consumer import Consumer
from slipstream.broker.topics import physical, topic_ids
from slipstream.contracts.events import CatalogRecord
from slipstream.contracts.positions import Source
from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, PEOPLE
from slipstream.stores import lake
from tests.integration.running_materializer import (
    RunningMaterializer,
    messages,
    running,
    steady,
    until,
)
from tests.integration.shop_stream import assert_exactly, events, link, send, send_entries


def counter(run: RunningMaterializer, name: str, **labels: str) -> float:
    """A counter of the service, by its name without prefix and suffix."""
    return run.metrics.registry.get_sample_value(f"slipstream_features_{name}_total", labels) or 0


@pytest.mark.servers("real")  # it takes ten seconds
def test_links_and_repeats_among_the_events_and_all_of_it_again(settings: FeaturesSettings) -> None:
    settings = steady(settings)
    chance = random.Random(3)
    made = events(1_200)
    merged = {f"u{n}": f"u{n - 1}" for n in range(1, 150, 3)}  # a third of all visitors
    copies = [event.model_copy(update={"maybe_repeat": True}) for event in chance.sample(made, 200)]
    first = made[0].model_copy(update={"event_id": "first", "maybe_repeat": True})
    with running(settings) as run:
        send(run.producer, made[:400])
        send_entries(run.producer, [link(*pair) for pair in list(merged.items())[:30]])
        send(run.producer, made[400:] + copies + [first, first])
        send_entries(run.producer, [link(*pair) for pair in merged.items()])
        run.settle()
        assert_exactly([*made, first], run.store, run.lake, merged)
        assert counter(run, "repeats") == len(copies) + 1
        assert counter(run, "links", outcome="merged") == len(merged)

    member = Consumer(settings.kafka, settings.namespace, TOPICS, GROUP)
    until(lambda: bool(member.poll(0.1)) or member.remaining() is not None)
    for topic in (INTERACTIONS, PEOPLE):
        topic_id = topic_ids(settings.kafka, [physical(settings.namespace, topic)]).popitem()[1]
        start = {Source(topic.name, topic_id, n): 0 for n in range(topic.partitions)}
        until(partial(member.commit, start))
    member.close()
    with running(settings) as again:
        again.settle()
        assert_exactly([*made, first], again.store, again.lake, merged)


def test_a_user_is_erased_from_both_stores_and_begins_anew(settings: FeaturesSettings) -> None:
    made = events(400, visitors=6)
    with running(settings) as run:
        user = CatalogRecord(entity="user", entity_id="u1", attributes={"plan": "pro"}, timestamp=1)
        send_entries(run.producer, [user])
        send(run.producer, made)
        send_entries(run.producer, [link("u0", "u1")])
        run.settle()
        run.ask_to_erase("u1")
        until(lambda: counter(run, "erasures") >= 1)
        assert run.store.visitor("u0").counts == run.store.visitor("u1").counts == {}
        run.erase(1)
        assert run.store.visitor("u0") is run.store.visitor("u1") is None
        people = run.lake.read(lake.CATALOG, columns=["entity_id"])["entity_id"].to_pylist()
        assert people == [], "neither traits nor links nor the request stay"
        rows = run.lake.read(lake.INTERACTIONS, columns=["user_id"])["user_id"].to_pylist()
        assert set(rows) == {f"u{n}" for n in range(2, 6)}
        assert len(rows) == sum(event.user_id not in ("u0", "u1") for event in made)
        later = [
            event.model_copy(update=dict.fromkeys(("timestamp", "received_at"), now_ms() + 60_000))
            for event in events(9, visitors=1, first=500)
        ]
        send(run.producer, later)
        run.settle()
        assert run.store.visitor("u1") is None, "the link is gone, too"
        send_entries(run.producer, [link("u0", "u1")])
        run.settle()
        assert sum(run.store.visitor("u1").counts.values()) == 9
        assert run.lake.count(lake.INTERACTIONS) == len(rows) + 9


def test_an_erasure_ends_though_a_state_never_comes_back(
    settings: FeaturesSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.features.stream.erasures._RESTORES", 3)
    with running(settings) as run:
        send(run.producer, events(40, visitors=2))
        run.settle()
        run.ask_to_erase("u1")
        until(lambda: counter(run, "erasures") >= 1)
        passes = Mock(wraps=run.erasures._restored)
        monkeypatch.setattr(run.erasures, "_restored", passes)
        monkeypatch.setattr(run.erasures, "_restore", lambda *_: False)
        run.erase(1)
        assert passes.call_count == 3


def test_a_page_s_link_of_a_known_user_reaches_neither_store(settings: FeaturesSettings) -> None:
    by_page = {"by_browser": True}
    with running(settings) as run:
        send(run.producer, events(60, visitors=6))
        user = CatalogRecord(entity="user", entity_id="u1", attributes={"plan": "pro"}, timestamp=1)
        send_entries(run.producer, [user])
        run.settle()
        stolen = [link(victim, "thief").model_copy(update=by_page) for victim in ("u1", "u2")]
        changed = user.model_copy(
            update={"attributes": {"plan": "free"}, "timestamp": 2, **by_page}
        )
        login = link("anonymous", "u2").model_copy(update=by_page)
        proven = link("phone", "u3").model_copy(update={**by_page, "proven": True})
        send_entries(run.producer, [*stolen, changed, login, proven])
        until(lambda: counter(run, "links", outcome="refused") >= 2)
        run.settle()
        assert run.store.visitor("thief") is None
        asker, user = run.store.visitor("anonymous"), run.store.visitor("u2")
        assert (asker and asker.counts, bool(user and user.counts)) == ({}, True)
        assert run.store.visitor("phone") == run.store.visitor("u3")
        kept = run.lake.read(lake.CATALOG).to_pylist()
        columns = ("entity_id", "attributes", "by_browser", "proven")
        assert {tuple(row[name] for name in columns) for row in kept} == {
            ("u1", '{"plan":"pro"}', False, False),
            ("anonymous", '{"user_id":"u2"}', True, False),
            ("phone", '{"user_id":"u3"}', True, True),
        }


def test_an_erasure_of_a_device_leaves_the_user_whom_a_page_alone_named(
    settings: FeaturesSettings,
) -> None:
    made = events(60, visitors=2)
    device, said = (
        [
            event.model_copy(
                update={"event_id": f"{name}-{n}", "user_id": name, "anonymous_id": "device"}
            )
            for n, event in enumerate(events(5, visitors=1, first=100))
        ]
        for name in ("device", "device~unproven")
    )
    with running(settings) as run:
        user = CatalogRecord(entity="user", entity_id="u1", attributes={"plan": "pro"}, timestamp=1)
        send_entries(run.producer, [user])
        send(run.producer, made + device)
        run.settle()
        login = link("device", "u1").model_copy(update={"by_browser": True})
        send_entries(run.producer, [link("u0", "u1"), login])
        send(run.producer, said)
        run.settle()
        assert sum(run.store.visitor("u1").counts.values()) == len(made) + len(device)
        run.ask_to_erase("device")
        until(lambda: counter(run, "erasures") >= 1)
        run.erase(1)
        run.settle()
        assert run.store.visitor("device") is run.store.visitor("device~unproven") is None
        assert sum(run.store.visitor("u0").counts.values()) == len(made)
        assert run.store._catalog._record("user", "u1").attributes == {"plan": "pro"}
        rows = run.lake.read(lake.INTERACTIONS, columns=["user_id"])["user_id"].to_pylist()
        assert sorted(rows) == sorted(event.user_id for event in made)
        people = run.lake.read(lake.CATALOG, columns=["entity_id"])["entity_id"].to_pylist()
        assert sorted(people) == ["u0", "u1"]


def test_late_events_become_letters_and_imported_ones_do_not(settings: FeaturesSettings) -> None:
    settings = steady(settings)
    good = events(5)
    late = [
        event.model_copy(
            update={"event_id": f"late-{n}", "timestamp": event.received_at - 30 * HOUR_MS}
        )
        for n, event in enumerate(good)
    ]
    history = [
        event.model_copy(update={"event_id": f"old-{n}", "imported": True})
        for n, event in enumerate(late)
    ]
    with running(settings) as run:
        send(run.producer, good + late + history)
        until(lambda: counter(run, "rejected", code="timestamp_late") >= len(late))
        run.settle()
        assert_exactly(good + history, run.store, run.lake)
        letters = [message.record for message in messages(settings, DEAD_LETTERS, len(late))]
        assert [letter.code for letter in letters] == ["timestamp_late"] * len(late)
