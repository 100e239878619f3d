"""Reasons of slates, compared with what the model answers when it is asked again."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.contracts.reasons import SlateReasons
from slipstream.models.base import Mask
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.stages import Event
from slipstream.slates.reasons.measured_reasons import (
    MOST_LEFT_OUT,
    measured_reasons,
    past_items,
    score_parts,
)
from tests.unit.recommender.small_models import ITEMS
from tests.unit.serving import fakes

NOW = 1_700_000_000_000
DEPTH = 200
SHORT_HISTORY = [Event(f"i{place}", "view", 1_000 * place) for place in (3, 60, 200, 7)]
IDS = st.integers(0, ITEMS - 1).map("i{}".format)
EVENTS = st.builds(
    Event,
    st.one_of(IDS, st.sampled_from(["i1", "i2", "i3", "unknown"])),
    st.sampled_from(["view", "purchase", "video_started", "impression"]),
    st.integers(1, NOW),
)
HISTORIES = st.lists(EVENTS, max_size=30).map(
    lambda events: sorted(events, key=lambda event: event.timestamp_ms)
)


def reasons_of(
    bundle: Bundle,
    history: list[Event],
    n: int = 10,
    *,
    exclude: frozenset[str] = frozenset(),
    allowed: Mask | None = None,
    repeats: bool | None = None,
) -> SlateReasons:
    question = stages.list_question(
        bundle, history, n, exclude=exclude, allowed=allowed, repeats=repeats
    )
    listed = [each.item_id for each in stages.answers(bundle, [question])[0]]
    return measured_reasons(bundle, history, question, listed, now=NOW)


def rank_in(listed: list[stages.Recommendation], item_id: str) -> int | None:
    ids = [each.item_id for each in listed]
    return ids.index(item_id) + 1 if item_id in ids else None


@settings(max_examples=25, deadline=None)
@given(HISTORIES, st.frozensets(IDS, max_size=5), st.booleans(), st.sampled_from([1.0, 0.5]))
def test_the_model_gives_the_measured_rank_when_it_is_asked_without_the_item(
    whole: Bundle, history: list[Event], exclude: frozenset[str], repeats: bool, share: float
) -> None:
    mask = np.random.default_rng(3).random(ITEMS) < share
    reasons = reasons_of(whole, history, exclude=exclude, allowed=mask, repeats=repeats)
    hidden = exclude if repeats else exclude | {event.item_id for event in history}

    def asked_again(events: list[Event]) -> list[stages.Recommendation]:
        return stages.recommend(whole, events, DEPTH, exclude=hidden, allowed=mask, repeats=True)

    with_all, with_nothing = asked_again(history), asked_again([])
    without = [
        asked_again([event for event in history if event.item_id != left_out.item_id])
        for left_out in reasons.history
    ]
    for place, item in enumerate(reasons.items):
        assert item.rank == place + 1 == rank_in(with_all, item.item_id)
        assert item.score == pytest.approx(with_all[place].score, abs=1e-6)
        assert item.rank_without_history == rank_in(with_nothing, item.item_id)
        assert item.ranks_without == [rank_in(listed, item.item_id) for listed in without]
        if item.because:
            listed = asked_again([event for event in history if event.item_id not in item.because])
            assert item.rank_without == rank_in(listed, item.item_id)
            assert (item.rank_without or DEPTH + 1) > 2 * item.rank


def test_items_of_the_history_stay_excluded_when_they_are_left_out(whole: Bundle) -> None:
    history = [Event(f"i{place}", "view", NOW - place) for place in range(12)]
    question = stages.list_question(whole, history, exclude={"i50"})
    hidden = [f"i{place}" for place in (*range(12), 50)]
    reasons = measured_reasons(whole, history, question, hidden, now=NOW)
    assert len(reasons.history) == 12
    for item in reasons.items:
        assert item.rank is None and item.score == 0 and item.because == []
        assert item.ranks_without == [None] * 12
        assert item.words.endswith(
            "; not among the first 200 that the model finds for this visitor"
        )


def test_the_latest_items_are_left_out_and_the_others_counted(whole: Bundle) -> None:
    history = [Event(f"i{place}", "view", NOW - 1_000 + place) for place in range(40)]
    reasons = reasons_of(whole, [*history, history[0]._replace(timestamp_ms=NOW)])
    assert reasons.history_items == 40 and not reasons.cut_short
    expected = ["i0", *(f"i{place}" for place in range(39, 0, -1))][:MOST_LEFT_OUT]
    assert [left_out.item_id for left_out in reasons.history] == expected
    assert [left_out.events for left_out in reasons.history] == [2, *[1] * (MOST_LEFT_OUT - 1)]


def test_popularity_alone_has_no_item_of_the_history_as_a_reason(whole: Bundle) -> None:
    popularity = list(whole.retrievers).index("popularity")
    bundle = replace(whole, blend=whole.blend.only([popularity]), ranking=None)
    for item in reasons_of(bundle, [Event(f"i{place}") for place in range(9)]).items:
        assert item.because == [] and item.source == "popularity" and item.ranker is None
        assert item.rank_without_history == item.rank
        assert "because it is popular; for a visitor who has done nothing, " in item.words


def test_a_click_decides_on_what_goes_with_it(bundle: Bundle) -> None:
    """Visitors of this shop keep to their half of the items."""
    history = [Event("item-04"), Event("item-05"), Event("item-31")]
    reasons = {item.item_id: item for item in reasons_of(bundle, history).items}
    assert reasons["item-32"].because == ["item-31"]
    assert "item-31" not in reasons["item-06"].because


def test_clicks_do_not_decide_on_what_is_only_popular_beside_items_that_they_do(
    bundle: Bundle,
) -> None:
    others = fakes.ITEMS[20:]
    mask = np.isin(bundle.item_ids, ["item-06", "item-07", *others])
    history = [Event("item-04"), Event("item-05")]
    first, second, *popular = reasons_of(bundle, history, 22, allowed=mask).items
    assert {first.item_id, second.item_id} == {"item-06", "item-07"}
    assert {item.item_id for item in popular} == set(others)
    # Each of the clicks would do, so that it takes both to move what goes with them.
    assert first.because == second.because == ["item-05", "item-04"]
    assert first.ranks_without == [1, 1]
    assert first.rank_without == first.rank_without_history == 13
    assert [item.because for item in popular] == [[]] * 20


def test_no_slate_and_no_history_have_reasons_without_items(whole: Bundle) -> None:
    question = stages.list_question(whole, [Event("i3")])
    empty = measured_reasons(whole, [Event("i3")], question, [], now=NOW)
    assert empty.items == [] and empty.history == [] and not empty.cut_short
    reasons = reasons_of(whole, [])
    assert reasons.history == [] and reasons.history_items == 0
    assert all(item.rank_without_history == item.rank for item in reasons.items)


def test_titles_stand_for_ids_in_words(whole: Bundle) -> None:
    history = [Event("i3", "cart", NOW - 3_600_000)]
    question = stages.list_question(whole, history)
    listed = [each.item_id for each in stages.answers(whole, [question])[0]]
    reasons = measured_reasons(
        whole, history, question, listed, now=NOW, title_of={"i3": "Boots"}.get
    )
    assert reasons.history[0].title == "Boots"
    said = [item.words for item in reasons.items if item.because]
    assert said and all('put "Boots" into the cart an hour ago' in words for words in said)


def test_an_item_that_the_model_does_not_know_has_no_rank(whole: Bundle) -> None:
    question = stages.list_question(whole, [Event("i3")])
    (item,) = measured_reasons(whole, [Event("i3")], question, ["new"], now=NOW).items
    assert item.rank is None and item.retrievers == {} and item.source is None


def test_time_that_is_over_leaves_items_of_the_history_out_of_sight(whole: Bundle) -> None:
    history = [Event(f"i{place}", "view", NOW) for place in range(20)]
    question = stages.list_question(whole, history)

    def looked_at(deadline: float) -> SlateReasons:
        ticks = iter(range(1_000))  # a second for each look at the clock
        return measured_reasons(
            whole, history, question, ["i100"], now=NOW, deadline=deadline,
            clock=lambda: float(next(ticks)),
        )  # fmt: skip

    assert [len(looked_at(deadline).history) for deadline in (0, 4, 8)] == [0, 4, 12]
    assert looked_at(4).cut_short and not looked_at(1_000).cut_short
    assert len(looked_at(0).items[0].ranks_without) == 0


def test_an_item_has_its_event_of_most_weight_the_latest_of_several(whole: Bundle) -> None:
    history = [
        Event("i1", "purchase", 1),
        Event("i2", "view", 2),
        Event("i1", "purchase", 3),
        Event("i1", "view", 4),
        Event("i2", "click", 5),
    ]
    found = [
        (past.item_id, past.event_type, past.timestamp, past.weight, past.events)
        for past in past_items(whole, history)
    ]
    assert found == [("i2", "click", 5, 1.0, 2), ("i1", "purchase", 3, 3.0, 3)]


def test_events_that_change_no_list_are_not_there(whole: Bundle) -> None:
    history = [Event("unknown"), Event("i3", "impression"), Event("i4", "remove"), Event("i5")]
    assert [past.item_id for past in past_items(whole, history)] == ["i5"]


def test_parts_add_up_to_the_differences_of_scores(whole: Bundle) -> None:
    question = stages.list_question(whole, SHORT_HISTORY, 20)
    listed = stages.answers(whole, [question])[0]
    numbers = np.array([whole.index[each.item_id] for each in listed], np.int32)
    parts = score_parts(whole, question, numbers)
    sums = [sum(each.retrievers.values()) + (each.ranker or 0) for each in parts]
    scores = np.log([each.score for each in listed])
    assert np.array(sums) - sums[0] == pytest.approx(scores - scores[0], abs=1e-3)
    assert [each.source for each in parts] == [each.source for each in listed]


def test_features_have_the_rankers_names(whole: Bundle) -> None:
    question = stages.list_question(whole, SHORT_HISTORY, repeats=True)
    ids = [each.item_id for each in stages.recommend(whole, SHORT_HISTORY, 200, repeats=True)]
    numbers = np.array([whole.index[item_id] for item_id in ids], np.int32)
    assert whole.ranking is not None
    seen = set()
    for item_id, part in zip(ids, score_parts(whole, question, numbers), strict=True):
        assert list(part.features) == list(whole.ranking.features)
        assert part.features["history length"] == pytest.approx(np.log(5), abs=1e-6)
        seen |= {item_id} if part.features["seen"] else set()
    assert seen == set(ids) & {event.item_id for event in SHORT_HISTORY} != set()


def test_an_item_that_is_no_candidate_has_no_parts(whole: Bundle) -> None:
    question = stages.list_question(whole, SHORT_HISTORY, exclude={"i9"})
    for part in score_parts(whole, question, np.array([-1, 3, 9], np.int32)):
        assert part == (None, {}, None, {})
