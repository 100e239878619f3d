"""Bodies of answers, as `RecommendationResponse` documents them. orjson writes them as they are."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import orjson

from services.serving.answers import Answer, Item, RecommendationRequest
from services.serving.bodies import SlateQuery
from services.serving.catalog import Catalog
from services.serving.cursors import next_cursor
from services.serving.model_holder import Model


def answer_body(answer: Answer, attributes: "ItemAttributes | None" = None) -> dict[str, Any]:
    """The body of an answer that has no further page.

    Args:
        answer: The answer.
        attributes: The attributes that each item is given with; None for items without them.
    """
    body: dict[str, Any] = {
        "recommendation_id": answer.recommendation_id,
        "user_id": answer.user_id,
        "items": answer.items
        if attributes is None and not any(answer.touched)
        else [
            _item(item, attributes, rules)
            for item, rules in zip_longest(answer.items, answer.touched)
        ],
        "answered_by": answer.answered_by,
        "reason": answer.reason,
        "model_version": answer.model_version,
        "history_length": answer.history_length,
    }
    if answer.rules:
        body["rules"] = [rule.model_dump() for rule in answer.rules]
    if answer.propensities:
        body["propensities"] = answer.propensities
    if answer.reasons is not None:
        body["reasons"] = answer.reasons.model_dump()
    if answer.experiment:
        body |= {"experiment": answer.experiment, "variant": answer.variant}
    if answer.teams:
        body["teams"] = answer.teams
    return body


def page_body(
    answer: Answer, wanted: RecommendationRequest, attributes: "ItemAttributes | None" = None
) -> dict[str, Any]:
    """The body of an answer with the cursor of the next page."""
    page = [item.item_id for item in answer.items]
    following = next_cursor(wanted.before, page, wanted.n)
    return answer_body(answer, attributes) | {"next_cursor": following}


class ItemAttributes:
    """The attributes of items, from the catalogue, else from the model's training data.

    Args:
        catalog: The catalogue.
        model: The model in service.
        fields: Names of the wanted attributes; empty for all.
    """

    def __init__(self, catalog: Catalog, model: Model | None, fields: Collection[str] = ()) -> None:
        self._catalog, self._fields = catalog, fields
        self._trained: Mapping[str, Any] = (model.bundle.attributes if model else None) or {}

    @classmethod
    def wanted(
        cls, query: SlateQuery, catalog: Catalog, model: Model | None
    ) -> "ItemAttributes | None":
        """Those that a query asks for; None where it asks for none."""
        if not query.attributes and not query.fields:
            return None
        return cls(catalog, model, query.fields)

    def of(self, item_id: str) -> Any:
        """The attributes, in a form that orjson writes."""
        known = self._catalog.attributes(item_id)
        if not self._fields:
            return orjson.Fragment(known) if known is not None else self._trained.get(item_id, {})
        found = orjson.loads(known) if known is not None else self._trained.get(item_id, {})
        return {name: found[name] for name in self._fields if name in found}


def _item(
    item: Item, attributes: ItemAttributes | None, rules: Sequence[str] | None
) -> dict[str, Any]:
    body: dict[str, Any] = {"item_id": item.item_id, "score": item.score, "source": item.source}
    if attributes is not None:
        body["attributes"] = attributes.of(item.item_id)
    if rules:
        body["rules"] = rules
    return body
