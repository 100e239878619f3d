"""Which experiment counts for a placement."""

from typing import Any

from services.serving.state.topic_states import AHEAD_MS, ExperimentBook
from tests.unit.slates.test_participation import experiment


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


def test_models_are_wanted_from_a_minute_before_the_start_to_the_end() -> None:
    def of(*models: str) -> list[dict[str, str]]:
        return [{"name": f"v{n}", "model": model} for n, model in enumerate(models)]

    book = ExperimentBook()
    book.take(
        [
            experiment(
                "b", variants=of("", "canary"), starts_at=AHEAD_MS + 5, ends_at=2 * AHEAD_MS
            ),
            experiment("a", variants=of("7", "challenger", "canary")),
            experiment("c", variants=of("", "9"), state="stopped"),
        ]
    )
    assert book.models(0) == ["7", "challenger", "canary"]
    book.take([experiment("a", variants=of("", ""))])
    wanted = [book.models(at) for at in (0, 5, 2 * AHEAD_MS - 1, 2 * AHEAD_MS)]
    assert wanted == [[], ["canary"], ["canary"], []]
