"""Reasons in the words of a page, for its visitor, in English and German."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from slipstream.contracts import vocabulary as v
from slipstream.contracts.reasons import HistoryItem, ItemReason
from slipstream.slates.reasons.causes import history_decides
from slipstream.slates.slate_plan import Candidate, MadeSlate
from slipstream.slates.slate_request import Step


class Phrases(NamedTuple):
    """The phrases of a language.

    Attributes:
        pinned: For an item that a rule put there.
        because: Around what the visitor did.
        and_: Between the last two deeds.
        this: The item itself, where it was in the history.
        quoted: Around a title.
        deeds: Events by type, around a name.
        other_deed: The same for any other type.
        history: For an item that the whole history puts there.
        popular: For an item that a visitor without a history gets, too.
        similar: For an item that was found by the history's items alone.
        by_step: For items of other steps, by their source.
        otherwise: Where no reason is known.
    """

    pinned: str
    because: str
    and_: str
    this: str
    quoted: str
    deeds: Mapping[str, str]
    other_deed: str
    history: str
    popular: str
    similar: str
    by_step: Mapping[str, str]
    otherwise: str


# By the language's code. The first one is for whoever accepts none of them.
PHRASES: Final = {
    "en": Phrases(
        pinned="Selected by the shop",
        because="Because you {}",
        and_=" and ",
        this="this item",
        quoted="“{}”",
        deeds={
            v.VIEW: "viewed {}",
            v.CLICK: "looked at {}",
            v.CART: "put {} into the cart",
            v.PURCHASE: "bought {}",
            v.RATE: "rated {}",
            v.LIKE: "liked {}",
            v.WISHLIST: "put {} on the wish list",
        },
        other_deed="were interested in {}",
        history="Based on what you did here",
        popular="Popular with other visitors",
        similar="Similar to what you looked at",
        by_step={
            Step.TRENDING: "Popular right now",
            Step.POPULAR: "Popular with other visitors",
            Step.NEW: "New",
            Step.RECENT: "You looked at this recently",
            Step.BOUGHT_TOGETHER: "Often bought together",
        },
        otherwise="Recommended for you",
    ),
    "de": Phrases(
        pinned="Vom Shop ausgewählt",
        because="Weil Sie {} haben",
        and_=" und ",
        this="diesen Artikel",
        quoted="„{}“",
        deeds={
            v.VIEW: "{} angesehen",
            v.CLICK: "{} angeklickt",
            v.CART: "{} in den Warenkorb gelegt",
            v.PURCHASE: "{} gekauft",
            v.RATE: "{} bewertet",
            v.LIKE: "{} mit „Gefällt mir“ markiert",
            v.WISHLIST: "{} auf den Wunschzettel gesetzt",
        },
        other_deed="sich für {} interessiert",
        history="Passend zu Ihren bisherigen Besuchen",
        popular="Bei anderen beliebt",
        similar="Ähnlich wie Artikel, die Sie angesehen haben",
        by_step={
            Step.TRENDING: "Gerade beliebt",
            Step.POPULAR: "Bei anderen beliebt",
            Step.NEW: "Neu",
            Step.RECENT: "Von Ihnen kürzlich angesehen",
            Step.BOUGHT_TOGETHER: "Wird oft zusammen gekauft",
        },
        otherwise="Für Sie ausgewählt",
    ),
}


def reason_texts(slate: MadeSlate, language: str) -> list[str]:
    """The reason of each item of an explained slate, for its visitor. The slate has its traces, and
    reasons where they were measured.
    """
    phrases, pinned, measured = PHRASES[language], pinned_items(slate), slate.reasons
    reasons: Sequence[ItemReason | None] = measured.items if measured else [None] * len(slate.items)
    history = {past.item_id: past for past in measured.history} if measured else {}
    return [
        phrases.pinned
        if item.item_id in pinned
        else _text(phrases, item, slate.answered_by, reason, history)
        for item, reason in zip(slate.items, reasons, strict=True)
    ]


def pinned_items(slate: MadeSlate) -> set[str]:
    """The items of an explained slate that a rule pinned."""
    return {item_id for rule in slate.rules if rule.action == "pin" for item_id in rule.items}


def _text(
    phrases: Phrases,
    item: Candidate,
    answered_by: Step,
    reason: ItemReason | None,
    history: Mapping[str, HistoryItem],
) -> str:
    """The reason of an item that no rule pinned; arguments as of `reason_texts`."""
    if item.source in phrases.by_step:
        return phrases.by_step[item.source]
    if reason is None:
        return phrases.similar if answered_by is Step.SIMILAR else phrases.otherwise
    if reason.rank is None:
        return phrases.similar
    past = [history[item_id] for item_id in reason.because]
    if past and all(each.title or each.item_id == item.item_id for each in past):
        *others, last = [_deed(phrases, item, each) for each in past]
        return phrases.because.format(
            f"{', '.join(others)}{phrases.and_}{last}" if others else last
        )
    if past or history_decides(reason.rank, reason.rank_without_history):
        return phrases.history
    return phrases.popular


def _deed(phrases: Phrases, item: Candidate, past: HistoryItem) -> str:
    same = past.item_id == item.item_id
    name = phrases.this if same else phrases.quoted.format(past.title)
    return phrases.deeds.get(past.event_type, phrases.other_deed).format(name)
