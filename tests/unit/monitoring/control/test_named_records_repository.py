"""The newest state of placements, and their revisions, in real SQLite."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, text

from services.monitoring.control.named_records_repository import (
    AlertRuleTable,
    NoRecordError,
    PlacementTable,
    RevisionMismatchError,
    TooManyRecordsError,
)
from services.monitoring.slate_tables import AUDIT
from slipstream.contracts.placements import IncludeRule, Placement, PlacementPolicy
from slipstream.contracts.rest import AuditRecord
from slipstream.stores.metadata import AuditLog

SHOES = PlacementPolicy(
    rules=[IncludeRule(name="shoes", action="include", filter='category == "shoes"')], seen="hide"
)
VARIED = PlacementPolicy(diversity=0.5)


def audit(at: int = 1) -> AuditRecord:
    return AuditRecord(at=at, principal="ada", action="put_placement", subject="home")


def test_every_change_is_a_revision_with_an_audit_record(db: Engine, table: PlacementTable) -> None:
    first = table.put("home", SHOES, audit(1))
    assert first.created and first.record == table.find("home")
    assert (first.record.revision, first.record.changed_by) == (1, "ada")
    assert not table.put("home", VARIED, audit(2)).created
    deleted = table.delete("home", audit(3))
    assert (deleted.revision, deleted.deleted, deleted.policy) == (3, True, PlacementPolicy())
    assert table.put("home", SHOES, audit(4)).created
    kept = table.revisions("home", 10)
    assert [(it.revision, it.policy, it.deleted, it.changed_at) for it in kept] == [
        (4, SHOES, False, 4),
        (3, PlacementPolicy(), True, 3),
        (2, VARIED, False, 2),
        (1, SHOES, False, 1),
    ]
    assert [it.revision for it in table.revisions("home", 2, before=4)] == [3, 2]
    told = AuditLog(db, AUDIT).page(10, None).items
    assert [record.detail for record in told] == [
        {"revision": 4, "rules": 1},
        {"revision": 3, "rules": 0},
        {"revision": 2, "rules": 0},
        {"revision": 1, "rules": 1},
    ]


def test_the_same_policy_again_is_no_change(db: Engine, table: PlacementTable) -> None:
    table.put("home", SHOES, audit(1))
    again = table.put("home", SHOES.model_copy(), audit(2), expected=1)
    assert not again.created and again.record.revision == 1
    assert len(table.revisions("home", 10)) == len(AuditLog(db, AUDIT).page(10, None).items) == 1


@pytest.mark.parametrize("expected", [1, 3])
def test_a_change_of_another_revision_is_refused_and_changes_nothing(
    table: PlacementTable, expected: int
) -> None:
    table.put("home", SHOES, audit())
    table.put("home", VARIED, audit(), expected=1)
    with pytest.raises(RevisionMismatchError, match="home has revision 2"):
        table.put("home", SHOES, audit(), expected=expected)
    with pytest.raises(RevisionMismatchError, match="home has revision 2"):
        table.delete("home", audit(), expected=expected)
    assert table.find("home").policy == VARIED and len(table.revisions("home", 10)) == 2
    with pytest.raises(RevisionMismatchError, match="other does not exist"):
        table.put("other", SHOES, audit(), expected=1)


def test_pages_go_by_name_without_deleted_ones(table: PlacementTable) -> None:
    for name in ("cart", "home", "Home", "search"):
        table.put(name, SHOES, audit())
    table.delete("cart", audit())
    first = table.page(2)
    rest = table.page(10, first[-1].name)
    assert sorted(it.name for it in [*first, *rest]) == ["Home", "home", "search"]
    assert len(first) == 2
    for gone in ("cart", "never"):
        with pytest.raises(NoRecordError):
            table.find(gone)
        with pytest.raises(NoRecordError):
            table.delete(gone, audit())
    assert len(table.revisions("cart", 10)) == 2
    with pytest.raises(NoRecordError):
        table.revisions("never", 10)


def test_one_placement_too_many_is_refused_until_another_one_is_deleted(
    table: PlacementTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlacementTable, "most", 2)
    table.put("a", SHOES, audit())
    table.put("b", SHOES, audit())
    with pytest.raises(TooManyRecordsError):
        table.put("c", SHOES, audit())
    table.put("a", VARIED, audit())
    table.delete("b", audit())
    assert table.put("c", SHOES, audit()).created


def test_what_changes_while_it_is_published_waits_for_the_next_time(table: PlacementTable) -> None:
    table.put("home", SHOES, audit())
    table.put("cart", SHOES, audit())
    told = table.unpublished()
    newer = table.put("home", VARIED, audit()).record
    table.mark_published(told)
    assert table.unpublished() == [newer]
    table.mark_published([newer])
    assert table.unpublished() == []
    gone = table.delete("cart", audit())
    assert table.unpublished() == [gone]
    table.mark_unpublished()
    assert len(table.unpublished()) == 2


def test_a_row_that_can_not_be_read_holds_up_no_other_one(
    db: Engine, table: PlacementTable
) -> None:
    table.put("home", SHOES, audit())
    table.put("cart", SHOES, audit())
    with db.begin() as connection:
        connection.execute(
            text("""UPDATE monitoring_placements SET policy = '{"seen": 1}' WHERE name = 'cart'""")
        )
    assert [it.name for it in table.unpublished()] == ["home"]


def test_states_that_the_topic_knows_better_are_taken_in_and_revisions_go_on(
    table: PlacementTable,
) -> None:
    table.put("home", SHOES, audit())
    table.put("cart", SHOES, audit())
    newer = Placement(name="home", revision=5, policy=VARIED, changed_at=9, changed_by="bo")
    made = Placement(name="new", revision=1, deleted=True, changed_at=9)
    known = table.find("cart")
    assert table.take_in([newer, made, known]) == 2
    assert table.take_in([newer, made, known]) == 0
    assert table.find("home") == newer
    assert [it.revision for it in table.revisions("home", 10)] == [5, 1]
    assert [it.name for it in table.unpublished()] == ["cart"]
    assert table.put("home", SHOES, audit()).record.revision == 6


def test_no_revision_is_used_twice_where_an_older_state_is_the_present_one(
    db: Engine, table: PlacementTable
) -> None:
    for policy in (SHOES, VARIED, SHOES):
        table.put("home", policy, audit())
    with db.begin() as connection:
        connection.execute(text("UPDATE monitoring_placements SET revision = 1"))
    assert table.put("home", VARIED, audit()).record.revision == 4


def test_changes_at_the_same_moment_come_one_after_the_other(table: PlacementTable) -> None:
    table.put("home", SHOES, audit())

    def change(diversity: float) -> int | None:
        policy = PlacementPolicy(diversity=diversity)
        table.put(f"new-{diversity}", policy, audit())
        try:
            return table.put("home", policy, audit(), expected=1).record.revision
        except RevisionMismatchError:
            return None

    with ThreadPoolExecutor(8) as pool:
        revisions = list(pool.map(change, (number / 8 for number in range(8))))
    assert sorted(map(str, revisions)) == ["2", *["None"] * 7]
    assert len(table.page(10)) == 9


def test_shipped_rules_are_added_once_and_a_deleted_one_stays_so(db: Engine) -> None:
    rules = AlertRuleTable(db)
    rules.ship(1)
    shipped = [it.name for it in rules.rules()]
    assert shipped == [
        *("empty_share_high", "fallback_share_high", "fallback_share_rose"),
        *("features_lagging", "features_silent", "interactions_silent"),
        *("rejected_share_high", "training_failed"),
    ]
    change = AuditRecord(at=2, principal="ada", action="delete_alert_rule", subject="x")
    rules.delete("features_silent", change)
    own = rules.find("features_lagging").definition.model_copy(update={"threshold": 5.0})
    rules.put("features_lagging", own, change)
    rules.ship(3)
    assert [it.name for it in rules.rules()] == [it for it in shipped if it != "features_silent"]
    assert rules.find("features_lagging").definition.threshold == 5.0
    assert [it.changed_by for it in rules.revisions("features_lagging", 9)] == ["ada", "monitoring"]


def test_a_rule_that_this_version_does_not_know_is_left_out(db: Engine) -> None:
    rules = AlertRuleTable(db)
    rules.ship(1)
    with db.begin() as connection:
        connection.execute(
            text(
                "UPDATE monitoring_alert_rules SET definition ="
                " replace(definition, 'features_lag', 'of_tomorrow') WHERE name LIKE 'features%'"
            )
        )
    assert [it.name for it in rules.rules()] == [
        "empty_share_high",
        "fallback_share_high",
        "fallback_share_rose",
        "features_silent",
        "interactions_silent",
        "rejected_share_high",
        "training_failed",
    ]
