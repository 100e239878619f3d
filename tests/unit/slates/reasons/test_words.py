import pytest

from slipstream.contracts.reasons import HistoryItem
from slipstream.contracts.times import DAY_MS, HOUR_MS
from slipstream.slates.reasons.causes import Cause, ListedRanks, Rank
from slipstream.slates.reasons.words import ago, ordinal, reason_words, title

NOW = 1_700_000_000_000


def past(
    item_id: str, event_type: str = "view", age: int = 2 * DAY_MS, events: int = 1, name: str = ""
) -> HistoryItem:
    return HistoryItem(
        item_id=item_id,
        title=name or None,
        event_type=event_type,
        timestamp=NOW - age,
        events=events,
    )


def words(
    history: list[HistoryItem],
    cause: Cause | None,
    *,
    without: Rank = 4,
    alone: list[Rank] | None = None,
    source: str = "rules",
    rank: Rank = 3,
    pinned: bool = False,
) -> str:
    """The words of the third item of a slate."""
    alone = alone or [3] * len(history)
    ranks = ListedRanks(rank, 0.1, without, alone, cause, 200)
    return reason_words("x", 3, ranks, source, history, NOW, pinned=pinned)


def test_the_item_that_decides_is_named_with_the_rank_without_it() -> None:
    said = words([past("b"), past("a", name="Heat (1995)")], Cause((1,), 41))
    assert said == 'third because this visitor viewed "Heat (1995)" 2 days ago; without it, 41st'
    assert words([past("a", "cart", HOUR_MS)], Cause((0,), None)) == (
        'third because this visitor put "a" into the cart an hour ago; without it, beyond 200th'
    )
    assert words([past("a", "purchase", events=3)], Cause((0,), 6)) == (
        'third because this visitor bought "a" 2 days ago (one of 3 events); '
        "without all that, sixth"
    )


def test_items_that_decide_together_are_named_with_the_rank_without_all() -> None:
    past_items = [past("a"), past("b", "like", 0), past("c")]
    assert words(past_items, Cause((0, 1), 9)) == (
        'third because this visitor viewed "a" 2 days ago and liked "b" just now; '
        "without all that, ninth"
    )
    assert words(past_items, Cause((0, 1, 2), 9)) == (
        'third because this visitor viewed "a" 2 days ago, liked "b" just now and '
        'viewed "c" 2 days ago; without all that, ninth'
    )


def test_an_item_that_is_recommended_again_is_not_named_twice() -> None:
    said = words([past("x")], Cause((0,), 9))
    assert said == "third because this visitor viewed this item 2 days ago; without it, ninth"


def test_a_custom_type_is_named_as_it_is() -> None:
    said = words([past("a", "video_started")], Cause((0,), 9))
    assert 'this visitor did "video_started" with "a" 2 days ago' in said


def test_a_history_decides_where_no_few_items_of_it_do() -> None:
    assert words([past("a")], None, without=150) == (
        "third because of all that this visitor did; without it, 150th"
    )


@pytest.mark.parametrize(("alone", "named"), [([4, 5, 5], "b"), ([None, 6, None], "a")])
def test_of_a_history_that_decides_the_strongest_item_is_named(
    alone: list[Rank], named: str
) -> None:
    rank = "beyond 200th" if None in alone else "fifth"
    said = words([past(each) for each in "abc"], None, without=150, alone=alone)
    assert said == (
        f'third because of all that this visitor did, above all that they viewed "{named}" '
        f"2 days ago (without that, {rank}); without any of it, 150th"
    )


def test_no_reason_is_the_name_of_a_retriever() -> None:
    said = words([past("a")], None, without=5, source="popularity")
    assert said == "third because it is popular; for a visitor who has done nothing, fifth"
    said = words([past("a")], None, without=2)
    assert said == "third whatever this visitor did; for a visitor who has done nothing, second"


def test_the_place_is_that_of_the_slate_and_the_models_rank_comes_after_it() -> None:
    said = words([past("a")], None, without=60, source="popularity", rank=56)
    assert said == (
        "third; the model has it 56th because it is popular; "
        "for a visitor who has done nothing, 60th"
    )
    assert words([past("a")], None, without=None, rank=150) == (
        "third; the model has it 150th because of all that this visitor did; "
        "without it, beyond 200th"
    )


def test_a_pinned_item_is_there_because_of_the_pin() -> None:
    lead = "third because a rule pins it; the model has it"
    assert words([past("a")], Cause((0,), 9), pinned=True) == (
        f'{lead} third because this visitor viewed "a" 2 days ago; without it, ninth'
    )
    assert words([], None, without=60, rank=56, pinned=True).startswith(f"{lead} 56th ")
    assert words([], None, rank=None, pinned=True) == (
        "third because a rule pins it; "
        "not among the first 200 that the model finds for this visitor"
    )


@pytest.mark.parametrize(
    ("rank", "word"),
    [(1, "first"), (10, "tenth"), (11, "11th"), (21, "21st"), (42, "42nd"), (63, "63rd"),
     (112, "112th"), (200, "200th")],
)  # fmt: skip
def test_ranks_are_said_as_people_say_them(rank: int, word: str) -> None:
    assert ordinal(rank) == word


@pytest.mark.parametrize(
    ("age", "text"),
    [(-5, "just now"), (59_999, "just now"), (60_000, "a minute ago"), (HOUR_MS, "an hour ago"),
     (47 * HOUR_MS, "a day ago"), (2 * DAY_MS, "2 days ago"), (20 * DAY_MS, "2 weeks ago"),
     (70 * DAY_MS, "2 months ago"), (800 * DAY_MS, "2 years ago")],
)  # fmt: skip
def test_ages_are_in_their_largest_unit(age: int, text: str) -> None:
    assert ago(NOW - age, NOW) == text


def test_an_age_that_nobody_told_is_not_said() -> None:
    assert ago(0, NOW) == ""
    said = words([past("a", age=NOW)], Cause((0,), 9))
    assert said == 'third because this visitor viewed "a"; without it, ninth'


def test_titles_are_of_one_line_and_not_long() -> None:
    assert title(b'{"title": " The\\n Game ", "name": "n"}') == "The Game"
    assert title(b'{"title": 7, "name": "n"}') == "n"
    assert title(b"{}") is title(None) is None
    assert title(b'{"title": "' + b"a" * 99 + b'"}') == "a" * 79 + "…"
