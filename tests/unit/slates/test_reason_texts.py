from dataclasses import replace
from typing import Any, cast

import pytest

from slipstream.contracts.placements import RuleTrace
from slipstream.contracts.reasons import HistoryItem, ItemReason, SlateReasons
from slipstream.slates.reason_texts import PHRASES, reason_texts
from slipstream.slates.slate_plan import MadeSlate
from slipstream.slates.slate_request import Item, Step

DEPTH = 200


def reason(item_id: str = "x", **fields: Any) -> ItemReason:
    known: dict[str, Any] = {
        "item_id": item_id,
        "words": "third by the retriever transformer",
        "rank": 3,
        "score": 0.1,
        "because": [],
        "rank_without": None,
        "rank_without_history": 4,
        "ranks_without": [],
        "source": "transformer",
        "retrievers": {},
        "ranker": None,
        "features": {},
    }
    return ItemReason(**known | fields)


def past(item_id: str, event_type: str = "view", title: str | None = "Kettle") -> HistoryItem:
    return HistoryItem(item_id=item_id, title=title, event_type=event_type, timestamp=1, events=1)


def slate(
    *reasons: ItemReason, history: tuple[HistoryItem, ...] = (), source: str = "transformer"
) -> MadeSlate:
    items = [Item(each.item_id, 0.1, source) for each in reasons]
    measured = SlateReasons(
        ranked=DEPTH, history_items=1, cut_short=False, history=list(history), items=list(reasons)
    )
    return MadeSlate(cast(Any, None), items, answered_by=Step.MODEL, reasons=measured)


@pytest.mark.parametrize(
    ("because", "texts"),
    [
        (["a"], ("Because you viewed “Kettle”", "Weil Sie „Kettle“ angesehen haben")),
        (
            ["a", "b"],
            (
                "Because you viewed “Kettle” and bought “Pot”",
                "Weil Sie „Kettle“ angesehen und „Pot“ gekauft haben",
            ),
        ),
        (
            ["a", "b", "c"],
            (
                "Because you viewed “Kettle”, bought “Pot” and were interested in “Tea”",
                "Weil Sie „Kettle“ angesehen, „Pot“ gekauft und sich für „Tea“ interessiert haben",
            ),
        ),
        (["x"], ("Because you viewed this item", "Weil Sie diesen Artikel angesehen haben")),
        (["untitled"], ("Based on what you did here", "Passend zu Ihren bisherigen Besuchen")),
    ],
)
def test_what_the_visitor_did_is_said_in_the_visitors_language(
    because: list[str], texts: tuple[str, str]
) -> None:
    history = (
        *(past("a"), past("b", "purchase", "Pot"), past("c", "video_started", "Tea")),
        *(past("x", title=None), past("untitled", title=None)),
    )
    made = slate(reason(because=because), history=history)
    assert tuple(reason_texts(made, language)[0] for language in ("en", "de")) == texts


def test_items_that_no_event_decides_on_fit_the_visits_or_are_popular() -> None:
    made = slate(
        reason(), reason(rank_without_history=None), reason(rank=None), reason(source="popularity")
    )
    en = PHRASES["en"]
    assert reason_texts(made, "en") == [en.popular, en.history, en.similar, en.popular]


def test_a_pinned_items_reason_is_the_pin() -> None:
    pin = RuleTrace(rule="sponsored", action="pin", matched=1, items=["x"])
    boost = RuleTrace(rule="margin", action="boost", matched=1, items=["y"])
    made = replace(slate(reason("x"), reason("y")), rules=[pin, boost])
    assert reason_texts(made, "en") == [PHRASES["en"].pinned, PHRASES["en"].popular]


def test_every_step_has_a_reason_in_every_language() -> None:
    for language, phrases in PHRASES.items():
        for step in Step:
            made = MadeSlate(cast(Any, None), [Item("x", 0.1, step)], answered_by=step)
            (text,) = reason_texts(made, language)
            expected = {Step.MODEL: phrases.otherwise, Step.SIMILAR: phrases.similar}
            assert text == phrases.by_step.get(step, expected.get(step, phrases.otherwise))
            assert text and "retriever" not in text
    of_steps = [phrases.by_step.keys() for phrases in PHRASES.values()]
    of_deeds = [phrases.deeds.keys() for phrases in PHRASES.values()]
    assert len(set(map(frozenset, of_steps))) == len(set(map(frozenset, of_deeds))) == 1
