"""The scoring of an item for a group of visitors, as the model would rank it for each."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from slipstream.features.visitor import SequenceEvent
from slipstream.models.base import Mask
from slipstream.recommender import stages
from slipstream.recommender.bundle import Bundle
from slipstream.recommender.interest import Interest, interests
from slipstream.recommender.stages import ListQuestion
from slipstream.slates.catalogue.borrowing import in_known_items, scores_of
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.item_space import ItemSpace
from slipstream.slates.catalogue.model import Model
from slipstream.slates.slate_request import why_not_model

_NONE: Final = Interest(0.0, None)


class ActiveUser(NamedTuple):
    """A user in a possible audience: the id, the events and the time of the newest one (ms)."""

    user_id: str
    history: Sequence[SequenceEvent]
    active_at: int


class ItemInModel(NamedTuple):
    """An item as a model scores it: a known one by `number`, a new one by known ones like it.

    `allowed` is the mask of the items that may be in visitors' own lists.
    """

    model: Model
    number: int
    allowed: Mask


def item_in_model(item_id: str, model: Model, catalog: Catalog) -> ItemInModel | None:
    """The item as this model scores it; None where it knows neither it nor one that is like it."""
    space = catalog.space(model)
    number = space.number(item_id)
    if number is None:
        return None
    known = number < len(model.bundle.item_ids)
    if not known and not (space.new_items and space.new_items.nearest(number, 1)):
        return None
    return ItemInModel(model, number, catalog.mask(model))


def scored(
    item: ItemInModel, users: Sequence[ActiveUser], catalog: Catalog
) -> list[tuple[ActiveUser, Interest]]:
    """The interest of each user with a history of which the model knows something."""
    bundle = item.model.bundle
    asked: list[ActiveUser] = []
    histories: list[Sequence[SequenceEvent]] = []
    questions: list[ListQuestion] = []
    for user in users:
        history = in_known_items(user.history, item.model, catalog)
        if not why_not_model(item.model, history, "the history is empty"):
            # What stands in for the history's items may be in the list.
            repeats = None if history is user.history else True
            questions.append(
                stages.list_question(
                    bundle, history, stages.RANKED, allowed=item.allowed, repeats=repeats
                )
            )
            histories.append(history)
            asked.append(user)
    if not asked:
        return []
    if item.number < len(bundle.item_ids):
        found = interests(bundle, questions, item.number)
    else:
        space = catalog.space(item.model)
        found = borrowed_interests(bundle, space, questions, histories, item.number)
    return list(zip(asked, found, strict=True))


def borrowed_interests(
    bundle: Bundle,
    space: ItemSpace,
    questions: Sequence[ListQuestion],
    histories: Sequence[Sequence[SequenceEvent]],
    number: int,
) -> list[Interest]:
    """The interest of several visitors in an item that the model does not know. The score is that
    of lists; 0 where nothing like the item is among the best of the list or history. Questions are
    at least one, with the same request.
    """
    new_items = space.new_items
    if new_items is None or not new_items.nearest(number, 1):
        return [_NONE] * len(questions)
    shares = new_items.shares.of(number)
    found = []
    for own, history in zip(stages.answers(bundle, questions), histories, strict=True):
        score = float(scores_of(shares, own, history)[0])
        ahead = int(np.count_nonzero(own.scores >= score))
        behind_all = ahead == questions[0].request.n
        found.append(Interest(score, None if behind_all or not score else ahead + 1))
    return found
