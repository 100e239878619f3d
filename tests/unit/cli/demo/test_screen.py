from typing import Any

from slipstream_cli.demo import screen
from slipstream_cli.demo.tastes import DemoVisitor


def _film(item_id: str, title: str, *genres: str) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "attributes": {"title": title, "categories": list(genres), "release_year": 1995},
    }


TOY, HEAT, BABE = (
    _film("1", "Toy Story", "Comedy"),
    _film("2", "Heat", "Crime"),
    _film("3", "Babe", "Drama"),
)


def test_visitor_shows_taste_history_and_numbered_recommendations() -> None:
    text = screen.visitor(DemoVisitor("7", ["1"], ["Comedy"]), [TOY["attributes"]], [HEAT, BABE])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "", "Visitor 7, more than others: Comedy", "watched lately", "Toy Story (1995) Comedy",
        "recommended", "1 Heat (1995) Crime", "2 Babe (1995) Drama",
    ]  # fmt: skip


def test_change_marks_what_is_new_moved_and_gone() -> None:
    text = screen.change("7", _film("9", "Alien", "Horror"), [TOY, HEAT], [HEAT, BABE], 0.0254)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "", "Visitor 7 clicks on Alien (1995) (Horror)",
        "recommended 25 ms after the click was accepted",
        "1 Heat (1995) Crime ↑1", "2 Babe (1995) Drama new", "no longer: Toy Story (1995)",
    ]  # fmt: skip
