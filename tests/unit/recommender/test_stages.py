import numpy as np
import pytest

from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import (
    Event,
    answers,
    list_question,
    recommend,
    similar_items,
)
from tests.unit.recommender.chain import item_name


def _events(*places: int) -> list[Event]:
    return [
        Event(item_name(place), "view", 1_700_000_000_000 + step * 60_000)
        for step, place in enumerate(places)
    ]


@pytest.mark.parametrize("last", [5, 17, 33])
def test_recommend_puts_the_next_item_of_the_ring_first(bundle: Bundle, last: int) -> None:
    result = recommend(bundle, _events(last - 2, last - 1, last), 5)
    assert result[0].item_id == item_name(last + 1)
    assert result[0].source in {"rules", "ease"}


def test_recommend_changes_with_one_more_click(bundle: Bundle) -> None:
    before = recommend(bundle, _events(4, 5), 5)
    after = recommend(bundle, [*_events(4, 5), Event(item_name(20), "view", 1_700_000_300_000)], 5)
    assert item_name(21) in [one.item_id for one in after]
    assert item_name(21) not in [one.item_id for one in before]


def test_recommend_gives_what_is_popular_for_an_empty_history(bundle: Bundle) -> None:
    popularity = bundle.retrievers["popularity"].share  # type: ignore[attr-defined]
    expected = [bundle.item_ids[place] for place in np.argsort(-popularity, kind="stable")[:10]]
    result = recommend(bundle, [], 10)
    assert [one.item_id for one in result] == expected
    assert {one.source for one in result[:3]} == {"popularity"}


def test_recommend_skips_unknown_items_and_events_without_weight(bundle: Bundle) -> None:
    noise = [
        Event("no-such-item"),
        Event(item_name(30), "impression"),
        Event(item_name(31), "remove"),
    ]
    assert recommend(bundle, [*_events(4, 5), *noise], 5, exclude={"x"}, repeats=True) == recommend(
        bundle, _events(4, 5), 5, exclude={"x"}, repeats=True
    )


def test_recommend_leaves_out_the_history_unless_repeats_are_asked_for(bundle: Bundle) -> None:
    history = _events(4, 5, 6)
    seen = {event.item_id for event in history}
    assert not seen & {one.item_id for one in recommend(bundle, history, 30)}
    assert seen & {one.item_id for one in recommend(bundle, history, 30, repeats=True)}


def test_a_selective_mask_still_fills_the_list(bundle: Bundle) -> None:
    rare = [bundle.index[item_name(place)] for place in (2, 3, 25, 26)]
    mask = np.zeros(len(bundle.item_ids), np.bool_)
    mask[rare] = True
    result = recommend(bundle, _events(10, 11), 4, allowed=mask, limit=1)
    assert {bundle.index[one.item_id] for one in result} == set(rare)


def test_recommend_is_ordered_and_its_scores_are_probabilities(bundle: Bundle) -> None:
    scores = [one.score for one in recommend(bundle, _events(7, 8), len(bundle.item_ids))]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-4)


def test_mask_leaves_the_order_of_what_it_allows(bundle: Bundle) -> None:
    size = len(bundle.item_ids)
    mask = np.arange(size) % 3 == 0
    order = [one.item_id for one in recommend(bundle, _events(7, 8), size)]
    allowed = [one.item_id for one in recommend(bundle, _events(7, 8), size, allowed=mask)]
    assert allowed == [item_id for item_id in order if mask[bundle.index[item_id]]]
    assert allowed


def test_similar_items_keep_to_the_mask(bundle: Bundle) -> None:
    mask = np.ones(len(bundle.item_ids), np.bool_)
    mask[bundle.index[item_name(13)]] = False
    result = [one.item_id for one in similar_items(bundle, item_name(12), 5, allowed=mask)]
    assert result
    assert item_name(13) not in result


def test_similar_items_finds_neighbours_and_never_the_item_itself(bundle: Bundle) -> None:
    result = [one.item_id for one in similar_items(bundle, item_name(12), 5)]
    assert item_name(13) in result
    assert item_name(12) not in result


def test_similar_items_of_an_unknown_item_are_none(bundle: Bundle) -> None:
    assert similar_items(bundle, "no-such-item") == []


def test_a_list_is_named_as_a_whole_or_item_by_item(bundle: Bundle) -> None:
    listed = answers(bundle, [list_question(bundle, _events(3), 6)])[0]
    assert list(listed) == [listed[place] for place in range(6)]
    assert list(listed[1:3]) == list(listed)[1:3]
    assert list(listed.taken([4, 0])) == [listed[4], listed[0]]
    assert list(listed) == recommend(bundle, _events(3), 6)


def test_a_list_ends_where_nothing_more_may_be_shown(bundle: Bundle) -> None:
    allowed = np.zeros(len(bundle.item_ids), np.bool_)
    allowed[[5, 6]] = True
    listed = answers(bundle, [list_question(bundle, _events(3), 6, allowed=allowed)])[0]
    assert len(listed) == 2 and {each.item_id for each in listed} == {item_name(5), item_name(6)}
