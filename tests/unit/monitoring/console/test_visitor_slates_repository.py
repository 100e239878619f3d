"""The slates that monitoring keeps of a visitor, on real SQLite."""

from sqlalchemy import Engine

from services.monitoring.attribution import Arrivals, Response
from services.monitoring.console.visitor_slates_repository import slates_of
from services.monitoring.repository import SlateLog
from tests.unit.monitoring.builders import shown


def test_the_newest_slates_come_first_with_what_was_clicked(db: Engine) -> None:
    log = SlateLog(db, 1_000)
    slates = [shown(f"s{n}", "ada", at=n, items="ab", placement="home") for n in range(3)]
    others = [shown("of-bob", "bob", at=9)]
    at = slates[2].timestamp + 5
    clicks = [
        Response("e1", "ada", "a", at + 2, False, "s2"),
        Response("e2", "ada", "a", at, True, "s2"),
        Response("e3", "bob", "a", at, False, "of-bob"),
    ]
    log.record(Arrivals(slates=[*slates, *others], responses=clicks), at + 10)
    found = slates_of(db, "ada", 2)
    assert [slate.recommendation_id for slate in found] == ["s2", "s1"]
    assert [(item.item_id, item.clicked_at) for item in found[0].items] == [("a", at), ("b", None)]
    assert [item.clicked_at for item in found[1].items] == [None, None]
    assert (found[0].at, found[0].placement, found[0].variant) == (
        slates[2].timestamp, "home", slates[2].variant,
    )  # fmt: skip
    assert slates_of(db, "carol", 10) == []
