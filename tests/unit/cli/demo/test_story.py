import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipstream.datasets.movielens import EventFiles
from slipstream_cli.demo import preparation, story
from slipstream_cli.demo.story import (
    RECENT,
    Demo,
    DemoVisitor,
    contrasting_visitors,
    films_of_another_kind,
)
from slipstream_cli.local.plan import make_plan
from slipstream_cli.local.terminal import Terminal


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
    text = story.visitor_text(
        DemoVisitor("7", ["1"], ["Comedy"]), [TOY["attributes"]], [HEAT, BABE]
    )
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "", "Visitor 7 watches more than others: Comedy", "recently watched",
        "Toy Story (1995) Comedy",
        "recommended", "1 Heat (1995) Crime", "2 Babe (1995) Drama",
    ]  # fmt: skip


def test_change_marks_what_is_new_moved_and_gone() -> None:
    text = story.change("7", _film("9", "Alien", "Horror"), [TOY, HEAT], [HEAT, BABE], 0.0254)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "", "Visitor 7 clicks on Alien (1995) (Horror)",
        "recommended 25 ms after the click was accepted",
        "1 Heat (1995) Crime ↑1", "2 Babe (1995) Drama new", "dropped: Toy Story (1995)",
    ]  # fmt: skip


ITEMS = pa.table(
    {
        "item_id": [str(n) for n in range(90)],
        "categories": [[["Drama", "Horror", "War"][n // 30]] for n in range(90)],
    }
)


def _interactions(seed: int) -> pa.Table:
    """Thirty visitors who watch everything, and one per genre who watches little else."""
    random = np.random.default_rng(seed)
    rows = [
        (f"all-{user}", str(film), at)
        for user in range(30)
        for at, film in enumerate(random.permutation(90))
    ]
    for start, user in ((0, "drama"), (30, "horror"), (60, "war")):
        rows += [(user, str(start + at % 30), at) for at in range(RECENT)]
    random.shuffle(rows)
    users, films, at = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": films, "timestamp": [int(t) for t in at]})


def test_contrasting_visitors_are_those_of_one_taste_each() -> None:
    visitors = contrasting_visitors(_interactions(0), ITEMS)
    assert {visitor.user_id for visitor in visitors} == {"drama", "horror", "war"}
    assert {visitor.user_id: visitor.likes for visitor in visitors}["horror"] == ["Horror"]
    assert next(v for v in visitors if v.user_id == "war").watched[:2] == ["69", "68"]


def test_contrasting_visitors_do_not_hang_on_the_order_of_the_file() -> None:
    table = _interactions(1)
    assert contrasting_visitors(table, ITEMS) == contrasting_visitors(
        table.sort_by("user_id"), ITEMS
    )


def test_contrasting_visitors_need_enough_history() -> None:
    with pytest.raises(ValueError, match="3 visitors with 40 films each are needed, there are 0"):
        contrasting_visitors(_interactions(0).slice(0, 39), ITEMS)


def test_films_of_another_kind_begin_with_unknown_ones_that_share_fewest_genres() -> None:
    films = {"1": ["Horror"], "2": ["War"], "3": ["Horror", "War"], "4": ["Drama"]}
    slate = [
        {"item_id": item_id, "attributes": {"categories": genres}}
        for item_id, genres in films.items()
    ]
    visitor = DemoVisitor("v", watched=[], likes=["Horror"])
    found = films_of_another_kind(visitor, {"2"}, [slate[:3], slate[3:]])
    assert [film["item_id"] for film in found] == ["4", "1", "3", "2"], "known ones come last"


class Services:
    """Services with lists that change with the second click."""

    def __init__(self) -> None:
        self.clicked: list[str] = []

    def get(self, path: str) -> Any:
        assert path.startswith("/v1/features/visitor/"), "a list of another kind counts as seen"
        return {"sequence": [{"item_id": "1"}]}

    def post(self, path: str, body: Any) -> Any:
        if path == "/v1/track":
            self.clicked.append(body["properties"]["item_id"])
            return {}
        assert path == "/v1/recommendations:batch"
        first = {"drama": 0, "horror": 30, "war": 60}[body["user_ids"][0]] + len(self.clicked) // 2
        items = [{"item_id": str(first + place)} for place in range(body["n"] - 1)]
        return {"lists": [{"answered_by": "model", "items": [*items, {"item_id": "unnamed"}]}]}


def test_the_lists_that_the_demo_asks_for_itself_count_as_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services, told = Services(), io.StringIO()
    monkeypatch.setattr(preparation, "Peer", lambda *_, **__: services)
    monkeypatch.setattr(story, "CHANGE_LIMIT_S", 0.01)
    files = EventFiles(tmp_path / "interactions.parquet", tmp_path / "items.parquet")
    pq.write_table(_interactions(0), files.interactions)
    titles = pa.array([f"Film {n}" for n in range(90)])
    pq.write_table(ITEMS.append_column("title", titles), files.items)
    plan = make_plan(tmp_path, {}, any_ports=True)
    demo = Demo(plan, Terminal(io.StringIO(), told), placement="home")
    monkeypatch.setattr(demo._preparation, "run", lambda _: files)
    taken: list[str] = []
    monkeypatch.setattr(demo._preparation, "take_placement", taken.append)
    demo.run(lambda: None)
    assert taken == ["home"]
    assert [click.item_id for click in demo.clicks] == services.clicked != []
    assert len(services.clicked) == 2 and "ms after the click was accepted" in told.getvalue()
    assert "10 unnamed" in told.getvalue()
