from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.models.base import Arrays
from slipstream.models.content import fit_content_index
from slipstream.models.content_index import hashes
from slipstream.models.nearest import Nearest
from slipstream.recommender import new_items
from slipstream.recommender.new_items import NewItems
from tests.unit.recommender.small_models import ITEMS, small_bundle

COLOURS = ["red", "green", "blue", "grey"]
DESCRIBED = [{"colour": colour} for colour in [*COLOURS, *COLOURS]]
CHANGES = st.lists(
    st.tuples(st.integers(10, 20), st.sampled_from([*COLOURS, "unheard of"])), max_size=40
)


BUNDLE = replace(small_bundle(), content=fit_content_index(DESCRIBED, np.arange(1, 9)))


def no_items() -> NewItems:
    return NewItems(BUNDLE)


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
    scores = items.shares.borrowed(lenders, np.array([0.5, 0.3, 0.1], np.float32))
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


def test_a_score_is_of_what_is_lent_and_of_what_the_network_says() -> None:
    network = BUNDLE.network
    assert network is not None
    dim, hashed = network.items.rows.shape[1], np.sort(hashes(["colour=red", "colour=blue"]))
    vectors = np.zeros((2, dim), np.float32)
    vectors[hashed == hashes(["colour=red"])[0], 0] = 1
    told: Arrays = {
        "term_hashes": hashed,
        "term_rarities": np.ones(2, np.float32),
        "terms": vectors,
    }
    rows = np.zeros((ITEMS, dim), np.float32)
    rows[[6, 0, 1], 1] = np.log([1, 2, 5])
    network = replace(
        network, weights={**network.weights, **told}, items=Nearest.compared_whole(rows)
    )
    bundle = replace(BUNDLE, retrievers={"transformer": network})
    items = NewItems.of(bundle, [{"colour": "red"}, {"colour": "blue"}])
    assert items is not None and items.shares.numbers.tolist() == [ITEMS + 1, ITEMS]
    nothing: list[int] = []
    lenders = [6, 0, 1], [0.4, 0.3, 0.1], nothing  # of .8 together, blue's lend .2, and red's .15
    for absent in (np.zeros(dim, np.float32), np.zeros(0, np.float32)):
        assert items.shares.scores(*lenders, absent) == pytest.approx([0.2, 0.15])
    state = np.zeros(dim, np.float32)
    state[1] = 1  # by the network, lenders have 8 together, and blue has 1
    for of_red in (4, 4_000):
        state[0] = np.log(of_red)
        blue, red = 0.8 / 9, 0.8 * of_red / (of_red + 8)
        expected = [2 * np.sqrt(0.2 * blue), max(red, 2 * np.sqrt(0.15 * red))]
        assert items.shares.scores(*lenders, state) == pytest.approx(expected)
        assert items.shares.of(ITEMS).scores(*lenders, state) == pytest.approx(expected[1:])
    assert expected[1] == red
