"""Records that were made before an erasure, and reach the log after it, come to no store."""

import time

from services.features.settings import FeaturesSettings
from services.features.stream.materializer import TOPICS
from slipstream.broker.log_ends import log_ends
from slipstream.broker.producer import OutgoingRecord
from slipstream.contracts.events import CatalogRecord, Interaction, Record, Slate
from slipstream.contracts.late_records import MARKED_MS, ErasureMark, visitor_digest
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import INTERACTIONS, PEOPLE, PERSONAL, RECOMMENDATIONS, Topic
from slipstream.contracts.vocabulary import MERGED_INTO
from slipstream.stores import lake
from tests.integration.running_materializer import RunningMaterializer, running
from tests.waiting import until

USER, DEVICE = "erased-7f3a9c51", "device-7f3a9c51"


def slate(name: str, at: int, number: int = 0) -> OutgoingRecord:
    record = Slate(
        recommendation_id=f"{name}-r{number}",
        user_id=name,
        timestamp=at,
        items=[],
        answered_by="model",
        circumstances={"history": [[USER]]},
    )
    return OutgoingRecord(RECOMMENDATIONS, name, record)


def event(name: str, at: int, number: int = 0) -> OutgoingRecord:
    record = Interaction(
        event_id=f"{name}-{at}-{number}",
        event_type="view",
        user_id=name,
        item_id="i1",
        timestamp=at,
        received_at=at,
    )
    return OutgoingRecord(INTERACTIONS, name, record)


def said(entity: str, name: str, at: int, **attributes: str) -> OutgoingRecord:
    record = CatalogRecord.model_validate(
        {"entity": entity, "entity_id": name, "timestamp": at, "attributes": attributes}
    )
    return OutgoingRecord(PEOPLE, f"{entity}:{name}", record)


def send(run: RunningMaterializer, *outgoing: OutgoingRecord) -> None:
    for topic, key, record, _ in outgoing:
        assert isinstance(record, Record)
        run.producer.send(topic, key, record)
    run.producer.flush(30)


def ask(run: RunningMaterializer, settings: FeaturesSettings, erasure_id: str = "e1") -> int:
    """Ask for the user's erasure; the time of the request."""
    asked_at = now_ms()
    request = CatalogRecord(
        entity="user",
        entity_id=USER,
        deleted=True,
        timestamp=asked_at,
        erasure_id=erasure_id,
        cut=log_ends(settings.kafka, settings.namespace, TOPICS),
    )
    send(run, OutgoingRecord(PEOPLE, f"erasure:{erasure_id}", request))
    return asked_at


def names(run: RunningMaterializer, *tables: str) -> set[str]:
    """The visitors whom rows of these tables name."""
    return {
        name
        for table in tables
        if run.lake.version(table) is not None
        for column in ("entity_id" if table == lake.CATALOG else "user_id",)
        for name in run.lake.read(table, columns=[column])[column].to_pylist()
    }


def test_slates_made_before_an_erasure_and_handed_over_after_it_are_not_kept(
    settings: FeaturesSettings,
) -> None:
    with running(settings) as run:
        send(run, event(USER, now_ms()))
        run.settle()
        made_at = now_ms()
        ask(run, settings)
        for number, delay_s in enumerate((0.0, 0.01, 0.3)):
            time.sleep(delay_s)
            send(run, slate(USER, made_at, number), slate("stranger", made_at, number))
        run.erase(1)
        run.settle()
        assert names(run, lake.RECOMMENDATIONS) == {"stranger"}


def test_whatever_comes_once_the_erasure_is_done_is_left_out_when_it_was_made_before(
    settings: FeaturesSettings,
) -> None:
    with running(settings) as run:
        now = now_ms()
        send(run, event(USER, now), said("identity", DEVICE, now, **{MERGED_INTO: USER}))
        run.settle()
        asked_at = ask(run, settings)
        run.erase(1)
        late = [
            *(slate(name, now_ms(), 1) for name in (USER, DEVICE)),
            *(event(name, asked_at, 1) for name in (USER, DEVICE)),
            said("user", USER, asked_at, plan="pro"),
            said("identity", "other", asked_at, **{MERGED_INTO: USER}),
        ]
        send(run, *late, event(USER, asked_at + 1, 2), event("other", asked_at, 2))
        until(lambda: names(run, lake.INTERACTIONS) == {USER, "other"})
        run.settle()
        assert names(run, lake.RECOMMENDATIONS, lake.CATALOG) == set()
        assert run.lake.count(lake.INTERACTIONS) == 2
        states = {name: run.store.visitor(name) for name in (USER, DEVICE, "other")}
        assert {name: state and state.counts for name, state in states.items()} == {
            USER: {"view": 1},
            DEVICE: None,
            "other": {"view": 1},
        }
        left_out = run.metrics.registry.get_sample_value(
            "slipstream_features_late_records_of_erased_total"
        )
        assert left_out == len(late)


def test_late_records_that_were_read_before_their_visitor_was_marked_go_with_the_pass(
    settings: FeaturesSettings,
) -> None:
    with running(settings) as run:
        now = now_ms()
        send(run, event(USER, now))
        run.settle()
        asked_at = ask(run, settings)
        # The pass has not begun, so no visitor is marked yet.
        send(
            run,
            slate(USER, now),
            event(USER, now, 1),
            event(USER, asked_at + 1, 2),
            said("user", USER, now, plan="pro"),
            said("identity", DEVICE, now, **{MERGED_INTO: USER}),
            event(DEVICE, now, 1),
        )
        run.settle()
        assert USER in names(run, lake.RECOMMENDATIONS)
        run.erase(1)
        assert names(run, lake.RECOMMENDATIONS, lake.CATALOG) == set()
        assert run.lake.count(lake.INTERACTIONS) == 2
        user, device = run.store.visitor(USER), run.store.visitor(DEVICE)
        assert user is not None and user.counts == {"view": 1} and user.last_seen == asked_at + 1
        assert device is not None and device.counts == {"view": 1}, "a late link has no effect"
        assert run.store._catalog._record("user", USER) is None


def test_the_pass_waits_for_what_was_read_before_its_marks(settings: FeaturesSettings) -> None:
    """A slate that is read before its visitor is marked may be on its way to the lake."""
    section = settings.features.model_copy(update={"lake_flush_s": 2.0})
    settings = settings.model_copy(update={"features": section})
    with running(settings) as run:
        send(run, event(USER, now_ms()))
        ask(run, settings)
        run.settle()
        send(run, slate(USER, now_ms()))
        until(lambda: run.materializer.progress().lag == 0)
        run.erase(1)
        run.settle()
        assert names(run, lake.RECOMMENDATIONS) == set()


def test_marks_that_redis_has_lost_come_back_from_the_lake(settings: FeaturesSettings) -> None:
    with running(settings) as run:
        send(run, event(USER, now_ms()))
        run.settle()
        asked_at = ask(run, settings)
        run.erase(1)
        digest = visitor_digest(USER)
        assert run.store.marks.of([digest])[digest].asked_at == asked_at
        for key in run.store.marks._keys:
            run.store._redis.delete(key)
        assert run.store.marks.of([digest]) == {} and run.store.marks.count() == 0
        run.erasures._marking.renew()
        assert run.store.marks.of([digest])[digest].asked_at == asked_at
        assert run.lake.forget_visitors(asked_at + 1) == 1
        assert run.lake.forget_visitors(asked_at + 1) == 0
        assert run.lake.read(lake.ERASURES)["visitors"].to_pylist() == [None]

        marks, now = run.store.marks, now_ms()
        marks.put({"old": ErasureMark(now - MARKED_MS, now), "a": ErasureMark(now, now + 5)})
        marks.put({"a": ErasureMark(now - 9, now + 9)})
        run.erasures._marking.renew()
        assert marks.of(["a", "b"]) == {"a": ErasureMark(now, now + 9)}, "the later time counts"
        assert marks.of(["old"]) == {}


def test_every_personal_topic_of_history_is_judged() -> None:
    judged: set[Topic] = {INTERACTIONS, PEOPLE, RECOMMENDATIONS}
    assert set(TOPICS) & set(PERSONAL) == judged
