import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.models.content import fit_content_index
from slipstream.slates.catalogue import new_items
from slipstream.slates.catalogue.new_items import NewItems

COLOURS = ["red", "green", "blue", "grey"]
DESCRIBED = [{"colour": colour} for colour in [*COLOURS, *COLOURS]]
CHANGES = st.lists(
    st.tuples(st.integers(10, 20), st.sampled_from([*COLOURS, "unheard of"])), max_size=40
)


def no_items() -> NewItems:
    index = fit_content_index(DESCRIBED, np.arange(1, 9))
    assert index is not None
    return NewItems(index)


def filled(*changes: tuple[int, str]) -> NewItems:
    """The new items after changes of their colours, each compared at once."""
    items = no_items()
    colours: dict[int, str] = {}
    for number, colour in changes:
        colours[number] = colour
        items.wait(number)
        items.catch_up(lambda number: {"colour": colours[number]}, 1.0)
    return items


@settings(max_examples=60, deadline=None)
@given(CHANGES)
def test_score_is_the_mean_of_the_scores_of_the_items_alike(changes: list[tuple[int, str]]) -> None:
    items = filled(*changes)
    lenders = np.array([6, 0, 1], np.int32)
    scores = items.shares.scores(lenders, np.array([0.5, 0.3, 0.1], np.float32))
    # Each colour has two items, of which blue's have lent 0.5 and nothing, and so on.
    expected = {"red": 0.15, "green": 0.05, "blue": 0.25, "grey": 0.0}
    wanted = {
        number: expected[colour] for number, colour in dict(changes).items() if colour in expected
    }
    found = dict(zip(items.shares.numbers.tolist(), scores.tolist(), strict=True))
    assert found == pytest.approx(wanted)
    assert {number for number in range(10, 21) if items.nearest(number, 1)} == set(wanted)


def test_the_newest_items_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_items, "MOST_NEW_ITEMS", 3)
    items = filled(*((number, "red") for number in (12, 10, 15, 11, 14)))
    assert sorted(items.shares.numbers.tolist()) == [12, 14, 15]
    waiting = no_items()
    for number in (10, 11, 12, 10, 13):
        waiting.wait(number)
    waiting.catch_up(lambda _: {"colour": "red"}, 1.0)
    assert sorted(waiting.shares.numbers.tolist()) == [10, 12, 13]


def test_what_the_time_does_not_suffice_for_goes_on_waiting() -> None:
    items = no_items()
    for number in (10, 11):
        items.wait(number)
    seen = []
    for _ in range(3):
        items.catch_up(lambda _: {"colour": "red"}, budget_s=-1.0)
        seen.append(sorted(items.shares.numbers.tolist()))
    assert seen == [[11], [10, 11], [10, 11]]
    assert items.revision == 2
