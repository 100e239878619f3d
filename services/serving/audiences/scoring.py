"""The scoring of an item for a group of visitors, as the model would rank it for each."""

from collections.abc import Sequence
from typing import NamedTuple

from services.serving.catalog import Catalog
from services.serving.model_holder import Model
from services.serving.overlay.borrowed_interest import borrowed_interests
from services.serving.overlay.merging import in_known_items
from services.serving.steps import why_not_model
from slipstream.features.visitor import SequenceEvent
from slipstream.models.base import Mask
from slipstream.recommender import stages
from slipstream.recommender.interest import Interest, interests
from slipstream.recommender.stages import ListQuestion


class ActiveUser(NamedTuple):
    """A user whom an item may interest: the id, the events and the time of the newest one (ms)."""

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
    """The interest of those of these users of whose history the model knows something."""
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
