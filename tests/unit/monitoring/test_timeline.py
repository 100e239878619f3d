"""The timeline: what led to what, who decided, clicks before and after, and pages."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.monitoring import timeline
from services.monitoring.alert_repository import AlertBook
from services.monitoring.alert_rules import Acknowledgement, Action, Alert
from services.monitoring.arrivals import Arrivals
from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.probes import ServiceState
from services.monitoring.quality import Counts
from services.monitoring.repository import RecordLog
from services.monitoring.slate_tables import AUDIT
from services.monitoring.timeline import (
    MOST_RUN_PAGES,
    Cursor,
    Position,
    Timeline,
    TimelineEntry,
    read_runs,
)
from slipstream.chassis.client import PeerError
from slipstream.contracts.events import ModelEvent, ModelEventType, Severity
from slipstream.contracts.rest import AuditRecord, Run
from slipstream.stores.metadata import AuditLog
from tests.unit.monitoring.builders import T0, count_lists, database

DAY_MS = 86_400_000


def alert(number: int, at: int, action: Action = "retrain", closed_at: int | None = None) -> Alert:
    closed = None if closed_at is None else T0 + closed_at
    evidence = {"psi": {"views": 0.4}}
    return Alert(
        f"drift-{number}", "drift", Severity.WARNING, "drifted", evidence, action, T0 + at,
        T0 + at, closed,
    )  # fmt: skip


def run(number: int, at: int, trigger: str = "alert", **more: object) -> Run:
    values = {"run_id": f"r{number}", "state": "succeeded", "trigger": trigger}
    return Run.model_validate({**values, "created_at": T0 + at, **more})


def event(
    kind: str, version: str, at: int, previous: str | None = None, reason: str = ""
) -> ModelEvent:
    return ModelEvent(
        event=ModelEventType(kind),
        version=version,
        previous=previous,
        reason=reason,
        metrics={"ndcg@10": 0.1},
        timestamp=T0 + at,
    )


class Story:
    """A timeline on a database, and runs that training would answer with, newest first."""

    def __init__(self, folder: Path) -> None:
        self.engine = engine = database(folder)
        self.book, self.slates = AlertBook(engine), RecordLog(engine)
        counted = OutcomeTable(engine, lambda _digests: {})
        self.runs: list[Run] = []
        self.asked: list[str | None] = []
        self.on_page = 100
        self.failure: PeerError | None = None
        audit = AuditLog(engine, AUDIT)
        self.timeline = Timeline(self.book, self.slates, counted.counts, self.ask, audit)

    def ask(self, cursor: str | None) -> tuple[Sequence[Run], str | None]:
        self.asked.append(cursor)
        if self.failure:
            raise self.failure
        begin = int(cursor or 0)
        end = begin + self.on_page
        return self.runs[begin:end], str(end) if end < len(self.runs) else None

    def tell(self, *told: ModelEvent | Alert | Run | AuditRecord) -> None:
        for record in told:
            if isinstance(record, AuditRecord):
                AuditLog(self.engine, AUDIT).add(record)
        self.slates.record(
            Arrivals(model_events=[it for it in told if isinstance(it, ModelEvent)]), T0
        )
        self.book.save({}, [it for it in told if isinstance(it, Alert)])
        self.runs = sorted(
            [*self.runs, *(it for it in told if isinstance(it, Run))],
            key=lambda it: it.created_at,
            reverse=True,
        )

    def all(self, limit: int = 100, window_ms: int = DAY_MS) -> list[TimelineEntry]:
        """The entries of all pages."""
        entries: list[TimelineEntry] = []
        cursor = None
        while True:
            page = self.timeline.page(limit, cursor, window_ms)
            assert page.missing == [] and len(page.items) <= limit
            entries += page.items
            if page.next_cursor is None:
                return entries
            cursor = Cursor.parse(page.next_cursor)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_an_alert_leads_to_a_run_and_the_run_to_a_promotion_with_clicks_before_and_after(
    story: Story,
) -> None:
    story.tell(
        alert(1, 10_000, closed_at=900_000),
        run(1, 20_000, decision="promoted", decision_reason="surely better"),
        event("registered", "r1", 300_000),
        event("promoted", "r1", 300_001, previous="r0", reason="surely better"),
    )
    count_lists(story.engine, T0, Counts(10, 10, 30, clicked_slates=1), version="r0")
    count_lists(story.engine, T0 + 400_000, Counts(10, 10, 30, clicked_slates=4), version="r1")

    promoted, trained, asked = story.all()
    assert (asked.kind, asked.decided_by, asked.because) == ("alert", "rule", [])
    assert asked.alert is not None and asked.alert.evidence == {"psi": {"views": 0.4}}
    assert asked.alert.closed_at == T0 + 900_000
    assert (trained.kind, trained.decided_by) == ("run", "trigger")
    assert trained.because == [asked.entry_id]
    assert trained.summary == "run succeeded, promoted: surely better"
    assert (promoted.kind, promoted.decided_by) == ("model", "gate")
    assert promoted.because == [trained.entry_id]
    assert promoted.model is not None and promoted.model.metrics == {"ndcg@10": 0.1}
    change = promoted.click_through
    assert change is not None
    assert (change.version_before, change.before.count, change.before.of) == ("r0", 1, 10)
    assert (change.version_after, change.after.count, change.after.of) == ("r1", 4, 10)


def test_clicks_after_a_change_are_not_those_that_the_version_had_as_a_canary_or_before_a_rollback(
    story: Story,
) -> None:
    story.tell(
        event("promoted", "r1", 3_600_000, previous="r0"),
        event("rolled_back", "r0", 7_200_000, previous="r1"),
    )
    for version, at in (("r0", 1), ("r1", 1), ("r1", 4_000_000), ("r0", 8_000_000)):
        clicked = Counts(1, 1, 3, clicked_slates=1)
        count_lists(story.engine, T0 + at, clicked, version=version)
    changes = [entry.click_through for entry in story.all()]
    found = [(it.version_before, it.before.of, it.after.of) for it in changes if it]
    assert found == [("r1", 2, 1), ("r0", 1, 1)]


def test_a_refusal_is_the_gate_s_and_a_later_promotion_by_hand_is_a_request_s(story: Story) -> None:
    story.tell(
        event("refused", "r1", 1, previous="r0", reason="worse than popularity"),
        event("promoted", "r1", 2, previous="r0", reason="we know better"),
        event("promoted", "r2", 3, previous="r1", reason="surely better"),
        event("rolled_back", "r1", 4, previous="r2", reason="it is broken"),
        event("promoted", "r2", 5, previous="r1", reason="it is not"),
        event("deleted", "r1", 6, reason="after an erasure"),
    )
    entries = story.all()
    decided = [(e.model.event.value, e.decided_by) for e in entries[::-1] if e.model]
    assert decided == [
        ("refused", "gate"), ("promoted", "request"), ("promoted", "gate"),
        ("rolled_back", "request"), ("promoted", "request"), ("deleted", "erasure"),
    ]  # fmt: skip
    changed = [e.click_through is not None for e in entries[::-1]]
    assert changed == [False, True, True, True, True, False]
    empty = entries[1].click_through
    assert empty is not None and empty.before.value is None and empty.before.of == 0


def test_a_run_answers_the_alerts_since_the_run_before_that_had_not_closed(story: Story) -> None:
    story.tell(
        alert(1, 100),
        run(1, 200, "schedule"),
        alert(2, 300, closed_at=350),
        alert(3, 310, action="none"),
        alert(4, 320),
        run(2, 400, "alert"),
        run(4, 600, "request"),
    )
    runs = {e.entry_id: e for e in story.all() if e.run}
    assert {name: entry.because for name, entry in runs.items()} == {
        "run:r1": ["alert:drift-1"],
        "run:r2": ["alert:drift-4"],
        "run:r4": [],
    }
    assert [runs[f"run:r{n}"].decided_by for n in (1, 4)] == ["trigger", "request"]


def test_each_run_that_is_judged_since_the_onset_of_an_open_shift_answers_it(story: Story) -> None:
    shift = replace(alert(1, 100, closed_at=450), evidence={"onset": T0})
    story.tell(
        shift,
        *(run(number, 100 + 100 * number, onset=T0) for number in (1, 2, 4)),
        run(3, 350, "schedule", onset=T0 + 1),
    )
    because = {e.entry_id: e.because for e in story.all() if e.run}
    answers = [shift.alert_id in "".join(because[f"run:r{number}"]) for number in (1, 2, 3, 4)]
    assert answers == [True, True, False, False], "another shift, and closed"


def test_an_acknowledgement_is_told_with_its_alert_and_a_round_of_checks_leaves_it(
    story: Story,
) -> None:
    story.tell(alert(1, 1), alert(2, 2))
    words = [("night shift", "looking", 5), ("ops", "repaired", 6)]
    for who, note, at in words:
        record = AuditRecord(
            at=T0 + at, principal=who, action="acknowledge", subject="drift-1", detail={}
        )
        assert story.book.acknowledge(record, note).alert_id == "drift-1"
    story.tell(alert(1, 1, closed_at=9))
    second, first = [entry.alert for entry in story.all()]
    assert first is not None and second is not None
    assert first.acknowledged == Acknowledgement(at=T0 + 6, by="ops", note="repaired")
    assert first.closed_at == T0 + 9 and second.acknowledged is None
    audit = AuditLog(story.engine, AUDIT).page(10, None).items
    assert [(it.principal, it.subject) for it in audit] == [
        ("ops", "drift-1"),
        ("night shift", "drift-1"),
    ]
    unknown = AuditRecord(at=T0, principal="ops", action="acknowledge", subject="drift-7")
    with pytest.raises(LookupError, match="there is no alert drift-7"):
        story.book.acknowledge(unknown, "")
    assert len(AuditLog(story.engine, AUDIT).page(10, None).items) == 2


def deed(action: str, subject: str, at: int) -> AuditRecord:
    return AuditRecord(at=T0 + at, principal="ops", action=action, subject=subject)


def test_what_people_changed_is_told_to_those_who_may_read_it(story: Story) -> None:
    story.tell(alert(1, 1), deed("set_placement", "home", 2), deed("delete_experiment", "big", 3))
    # With its alert, in its receipt, and by the program itself.
    story.tell(*(deed(each, "x", 4) for each in ("acknowledge", "erase_user", "ship_alert_rule")))
    page = story.timeline.page(10, None, DAY_MS)
    assert [(it.kind, it.summary) for it in page.items[:2]] == [
        ("audit", "delete experiment big, by ops"),
        ("audit", "set placement home, by ops"),
    ]
    assert page.items[2].kind == "alert" and page.missing == []
    page = story.timeline.page(10, None, DAY_MS, audited=False)
    assert [it.kind for it in page.items] == ["alert"]
    assert [(it.part, it.reason) for it in page.missing] == [("audit", "it takes the scope admin")]


def test_older_audit_records_than_the_newest_are_missing_and_said_to_be(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MOST_AUDITED", 2)
    story.tell(alert(1, 1), *(deed("set_placement", "home", at) for at in (2, 3, 4)))
    first = story.timeline.page(2, None, DAY_MS)
    assert len(first.items) == 2 and first.missing == [] and first.next_cursor
    rest = story.timeline.page(2, Cursor.parse(first.next_cursor), DAY_MS)
    assert [it.kind for it in rest.items] == ["alert"]
    rest = story.timeline.page(2, Cursor(Position(T0 + 2, "x"), None), DAY_MS)
    assert "the newest 2; GET /v1/audit has all" in rest.missing[0].reason


def start(service: str, at: int) -> ServiceState:
    return ServiceState(name=service, state="ready", latency_ms=1, started_at=T0 + at)


def test_services_that_start_within_a_minute_are_one_entry_and_a_later_start_is_another(
    story: Story,
) -> None:
    story.slates.note_starts([start("serving", 0), start("features", 10)])
    story.slates.note_starts([ServiceState(name="serving", state="away", latency_ms=0)])
    for _ in range(2):  # each round of checks tells them again
        story.slates.note_starts([start("serving", 90_000), start("features", 10)])
    story.slates.note_starts([start("serving", 100_000), start("training", 300_000)])
    story.tell(deed("set_placement", "home", 80_000))
    assert [(it.at - T0, it.summary) for it in story.all(2)] == [
        (300_000, "training started"),
        (90_000, "serving (2 times) started again"),
        (80_000, "set placement home, by ops"),
        (0, "serving, features started"),
    ]
    story.slates.expire(shadows_before=0, answers_before=0, starts_before=T0 + 200_000)
    assert [it.summary for it in story.all() if it.kind == "start"] == ["training started"]


def test_without_training_the_timeline_says_that_runs_are_missing(story: Story) -> None:
    story.tell(alert(1, 1), run(1, 2), event("refused", "r1", 3))
    story.failure = PeerError("training at http://x can't be reached")
    page = story.timeline.page(10, None, DAY_MS)
    assert [entry.kind for entry in page.items] == ["model", "alert"]
    assert [(it.part, it.reason) for it in page.missing] == [
        ("runs", "training at http://x can't be reached")
    ]


@given(
    st.lists(st.tuples(st.sampled_from("armcp"), st.integers(0, 6)), max_size=25),
    st.integers(1, 7),
    st.integers(1, 5),
)
@example([("r", 0)] * 6, 5, 1)  # more pages of runs than may be passed over
def test_pages_have_each_entry_once_in_order_whatever_their_length(
    tmp_path_factory: pytest.TempPathFactory,
    told: list[tuple[str, int]],
    limit: int,
    runs_on_page: int,
) -> None:
    story = Story(tmp_path_factory.mktemp("story"))
    story.on_page = runs_on_page
    made: dict[str, Callable[[int, int], Alert | Run | ModelEvent | AuditRecord]] = {
        "a": alert,
        "r": run,
        "m": lambda number, at: event("refused", f"v{number}", at),
        "c": lambda number, at: event("promoted", f"v{number}", at),
        "p": lambda number, at: deed("set_placement", f"p{number}", at),
    }
    story.tell(*(made[kind](number, at) for number, (kind, at) in enumerate(told)))
    # As training lists them: by number, where times are equal.
    story.runs.sort(key=lambda it: (it.created_at, f"run:{it.run_id}"), reverse=True)
    positions = [entry.position for entry in story.all(limit)]
    assert positions == sorted(positions, reverse=True)
    assert len(set(positions)) == len(positions) == len(told)


def test_a_later_page_asks_training_only_for_the_runs_that_it_shows() -> None:
    every = [run(number, 1_000 - number) for number in range(50)]
    asked: list[str | None] = []

    def ask(cursor: str | None) -> tuple[Sequence[Run], str | None]:
        asked.append(cursor)
        begin = int(cursor or 0)
        return every[begin : begin + 10], str(begin + 10) if begin < 40 else None

    first = read_runs(ask, None, 11, None)
    assert asked == [None, "10"] and len(first.runs) == 20
    assert first.cursor_after({f"r{number}" for number in range(10)}) == "10"
    last = first.runs[9][0]
    second = read_runs(ask, Position(last.created_at, f"run:{last.run_id}"), 5, "10")
    assert asked[2:] == ["10"] and second.runs[0][0].run_id == "r10"


def test_runs_that_are_too_far_back_are_missing_and_said_to_be(story: Story) -> None:
    story.on_page = 1
    story.tell(*(run(number, 1_000 + number) for number in range(MOST_RUN_PAGES + 2)), alert(1, 5))
    page = story.timeline.page(5, Cursor(Position(T0 + 10, "run:x"), None), DAY_MS)
    assert [entry.kind for entry in page.items] == ["alert"]
    assert "begin again with the first page" in page.missing[0].reason
    assert len(story.asked) == MOST_RUN_PAGES


def test_cursor_reads_its_own_text_and_refuses_others() -> None:
    cursor = Cursor(Position(5, "alert:drift-5"), "17")
    assert Cursor.parse(cursor.text()) == cursor
    # Numbers and texts that databases do not take.
    strange = [Position(at, "alert:x") for at in (1 << 63, -1)]
    strange += [Position(5, f"alert:{text}") for text in ("\ud800", "\0")]
    crafted = [Cursor(it, None).text() for it in strange] + [Cursor(strange[0], "\ud800").text()]
    for text in ("nonsense", "e30", "WzEsMl0", "%%", *crafted):
        with pytest.raises(ValueError):
            Cursor.parse(text)
