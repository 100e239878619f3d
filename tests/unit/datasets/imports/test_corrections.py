"""What a corrected file withdraws of the one that it corrects."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipstream.datasets.imports import corrections
from slipstream.datasets.imports.corrections import correction
from slipstream.datasets.imports.sources import ImportFileError, find_files
from slipstream.datasets.imports.surveys import Export, open_export
from slipstream.datasets.imports.understanding import Choices

HEADER = "user_id,item_id,event_type,timestamp,price\n"


def export_of(folder: Path, name: str, rows: list[str]) -> Export:
    path = folder / name
    path.write_text(HEADER + "\n".join(rows) + "\n")
    (file,) = find_files(str(path))
    return open_export(file, Choices())


def row(user: str, item: str, second: int, price: int = 5) -> str:
    return f"{user},{item},purchase,{1_790_000_000 + second},{price}"


def test_left_out_and_changed_rows_are_withdrawn_and_others_stay(tmp_path: Path) -> None:
    earlier = [row("a", "tea", 1), row("b", "pot", 2), row("c", "cup", 3), row("c", "cup", 3)]
    corrected = [
        row("a", "tea", 1),
        row("b", "pot", 2, price=6),
        row("c", "cup", 3),
        row("d", "x", 4),
    ]
    found = correction(
        [export_of(tmp_path, "a.csv", earlier)], [export_of(tmp_path, "b.csv", corrected)]
    )
    # Of two equal rows one is left out; the price of another is corrected.
    assert (len(found.withdrawn), len(found.kept)) == (2, 2)
    assert (found.visitors, found.items) == ({"b", "c"}, {"pot", "cup"})
    assert (found.first, found.last) == (1_790_000_002_000, 1_790_000_003_000)
    assert not found.withdrawn & found.kept


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.builds(row, st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    ),
    st.randoms(),
)
def test_the_same_rows_in_another_order_withdraw_nothing(
    tmp_path: Path, rows: list[str], chance: random.Random
) -> None:
    shuffled = rows.copy()
    chance.shuffle(shuffled)
    found = correction(
        [export_of(tmp_path, "a.csv", rows)], [export_of(tmp_path, "b.csv", shuffled)]
    )
    assert (found.withdrawn, len(found.kept)) == (set(), len(rows))


def test_events_that_are_held_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "MOST_EVENTS", 2)
    export = export_of(tmp_path, "a.csv", [row("a", "tea", n) for n in range(3)])
    with pytest.raises(ImportFileError, match="split it by time"):
        correction([export], [export])
