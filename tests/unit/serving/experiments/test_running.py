"""Which experiment counts for a placement."""

from typing import Any

from services.serving.experiments.running import ExperimentBook
from tests.unit.serving.experiments.test_assignment import experiment


def name_of(book: ExperimentBook, placement: str, now_ms: int = 5) -> str | None:
    found = book.of(placement, now_ms)
    return found.name if found is not None else None


def test_the_book_follows_placements_times_and_states() -> None:
    book = ExperimentBook()
    assert name_of(book, "home") is None
    two: dict[str, Any] = {"placements": ["home", "cart"]}
    book.take([experiment("now", **two, ends_at=10), experiment("next", **two, starts_at=10)])
    assert [name_of(book, "home", at) for at in (5, 10)] == ["now", "next"]
    assert name_of(book, "cart") == "now" and name_of(book, "item") is None
    book.take([experiment("now", **two, state="stopped")])
    assert name_of(book, "home") is None
    book.take([experiment("next", **two).model_copy(update={"deleted": True})])
    assert name_of(book, "home", 10) is None and book.revision == 3
