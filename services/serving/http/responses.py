"""Answers of routes: the parts that the lifespan has opened for them, and the bodies.

Bodies are as `RecommendationResponse` documents them; orjson writes them as they are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Annotated, Any

import orjson
from fastapi import Path, Request, Response
from pydantic import BaseModel

from services.serving.http.bodies import ItemSlateQuery, SlateQuery, items_before, next_cursor
from services.serving.http.page_requests import PROOF, PageReads
from services.serving.http.preview_bodies import PreviewBody, funnel_body
from services.serving.request.explaining import LISTS
from services.serving.request.line import Line
from services.serving.request.store_reads import KeyRates
from services.serving.state.item_search import ItemSearch
from services.serving.state.model_holder import ModelHolder
from slipstream.chassis.access.guard import principal_of
from slipstream.chassis.access.verifier import ANYBODY
from slipstream.chassis.errors import NotFoundError, UnauthorizedError
from slipstream.chassis.request_names import refuse_unknown
from slipstream.contracts.access import Scope
from slipstream.contracts.bundle import ModelMetrics
from slipstream.contracts.events import Id, SlateItems
from slipstream.contracts.rest import Problem, RecommendationResponse
from slipstream.filters.conditions import ITEM_ID
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.model import Model
from slipstream.slates.reason_texts import PHRASES, reason_texts
from slipstream.slates.slate_plan import Candidate, MadeSlate
from slipstream.slates.slate_request import SlateRequest, Step


def slate_body(
    slate: MadeSlate,
    attributes: "ItemAttributes | None" = None,
    reason_texts: Sequence[str] = (),
) -> dict[str, Any]:
    """The body of an answer that has no further page.

    Args:
        attributes: The attributes that each item is given with; None for items without them.
        reason_texts: The reason of each item for its visitor; empty for none.
    """
    body: dict[str, Any] = {
        "recommendation_id": slate.recommendation_id,
        "user_id": slate.user_id,
        "items": orjson.Fragment(slate.items.placed_json)
        if isinstance(slate.items, SlateItems)
        and attributes is None
        and not any(slate.touched)
        and not reason_texts
        else [
            _item(*of_item, attributes)
            for of_item in zip_longest(
                slate.items, range(len(slate.items)), slate.touched, reason_texts
            )
        ],
        "answered_by": slate.answered_by,
        "reason": slate.reason,
        "model_version": slate.model_version,
        "history_length": slate.history_length,
    }
    if slate.rules:
        body["rules"] = [rule.model_dump() for rule in slate.rules]
    if slate.propensities:
        body["propensities"] = slate.propensities
    if slate.reasons is not None:
        body["reasons"] = slate.reasons.model_dump()
    if slate.experiment:
        body |= {"experiment": slate.experiment, "variant": slate.variant}
    return body


def page_body(
    slate: MadeSlate,
    attributes: "ItemAttributes | None" = None,
    reason_texts: Sequence[str] = (),
) -> dict[str, Any]:
    """The body of an answer with the cursor of the next page. Arguments as of `slate_body`."""
    page, request = [item.item_id for item in slate.items], slate.plan.request
    following = next_cursor(request.before, page, request.n)
    return slate_body(slate, attributes, reason_texts) | {"next_cursor": following}


class ItemAttributes:
    """The attributes of items, from the catalogue, else from the model's training data.

    Args:
        fields: Names of the wanted attributes; None for all.
    """

    def __init__(
        self, catalog: Catalog, model: Model | None, fields: Collection[str] | None = None
    ) -> None:
        self._catalog, self._fields = catalog, fields
        self._trained: Mapping[str, Any] = (model.bundle.attributes if model else None) or {}

    def of(self, item_id: str) -> Any:
        """The attributes, in a form that orjson writes."""
        known = self._catalog.attributes(item_id)
        if self._fields is None:
            return orjson.Fragment(known) if known is not None else self._trained.get(item_id, {})
        found = orjson.loads(known) if known is not None else self._trained.get(item_id, {})
        return {name: found[name] for name in self._fields if name in found}


def _item(
    item: Candidate,
    position: int,
    rules: Sequence[str] | None,
    reason_text: str | None,
    attributes: ItemAttributes | None,
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "item_id": item.item_id,
        "position": position,
        "score": item.score,
        "source": item.source,
    }
    if reason_text is not None:
        body["reason_text"] = reason_text
    if attributes is not None:
        body["attributes"] = attributes.of(item.item_id)
    if rules:
        body["rules"] = rules
    return body


class VariantModel(BaseModel):
    """The model of an experiment's variant. `version` is null where none is held, and `problem`
    says why.
    """

    model: str
    version: str | None
    problem: str


class ServedModel(BaseModel):
    """The model in service; times are in ms.

    `items` is the size of its catalogue, `repeats` whether it recommends items of the history
    again. `previous` is the version before it, `problem` why a newer one could not be loaded.
    """

    version: str
    loaded_at: int
    items: int
    retrievers: list[str]
    repeats: bool
    created_at: int
    profile: str
    code_commit: str | None
    lake_version: int | None
    metrics: ModelMetrics
    previous: str | None
    problem: str | None
    variants: list[VariantModel]


ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": RecommendationResponse},
    422: {"model": Problem},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use.

    `placements_without` gives the names of all placements where one is not among them; None where
    it is, or while they are not known. `attributes` gives the names of all items' attributes; empty
    while they are not known.
    """

    line: Line
    models: ModelHolder
    catalog: Catalog
    pages: PageReads
    search: ItemSearch
    rates: KeyRates = field(default_factory=lambda: KeyRates(0))
    variant_models: Callable[[], list[dict[str, Any]]] = list
    placements_without: Callable[[str], Collection[str] | None] = lambda _name: None
    attributes: Callable[[], Collection[str]] = tuple


def parts(request: Request) -> Parts:
    """The parts that the lifespan has opened."""
    opened: Parts = request.app.state.parts
    return opened


PathId = Annotated[Id, Path()]


def without_history(
    query: ItemSlateQuery, steps: Sequence[Step], similar_to: Sequence[str] = (), window: str = ""
) -> SlateRequest:
    """The request for a slate that does not depend on its visitor.

    Args:
        similar_to: Items to find neighbours of.
        window: Window of the popular items that are wanted.
    """
    return SlateRequest(
        query.n,
        query.user_id or "",
        history=(),
        similar_to=similar_to,
        exclude=frozenset(query.exclude),
        before=items_before(query.cursor) if query.cursor else (),
        placement=query.placement,
        steps=steps,
        filter=query.filter,
        diversity=query.diversity,
        window=window,
    )


async def answered(request: Request, query: SlateQuery, wanted: SlateRequest) -> Response:
    """The response to a request for one slate, counted for its key."""
    opened, principal = parts(request), principal_of(request)
    fields: Sequence[str] | None = query.fields or None
    of_page = Scope.READ not in principal.scopes
    if of_page:
        opened.pages.check(request, principal, wanted)
        fields = opened.pages.fields(query)
    elif principal is ANYBODY and PROOF in request.headers:
        raise UnauthorizedError(
            "Serving does not know this page's key: `slipstream keys create page --browser` makes "
            "one, and those in SLIPSTREAM_INGESTION__BROWSER_KEYS are ingestion's alone"
        )
    refuse_unknown_placement(request, query.placement)
    if query.fields and not of_page:
        _refuse_unknown_fields(request, query.fields)
    if not of_page:
        opened.rates.take(principal.name, LISTS if wanted.explain else 1)
    slate = await opened.line.answer(wanted)
    attributes = None
    if query.attributes or query.fields:
        attributes = ItemAttributes(opened.catalog, opened.models.current, fields)
    texts: Sequence[str] = ()
    headers: dict[str, str] | None = None
    if wanted.explain:
        texts, headers = _texts(request, slate)
    if of_page:  # visitors need not know the shop's rules
        slate = replace(slate, rules=(), touched=(), reasons=None)
    return json_response(page_body(slate, attributes, texts), headers=headers)


async def previewed(request: Request, body: PreviewBody, wanted: SlateRequest) -> Response:
    """The response to a request for a preview, counted for its key as an explained list."""
    opened = parts(request)
    refuse_unknown_placement(request, body.placement)
    _refuse_unknown_fields(request, body.fields)
    if body.about is not None:
        require_item(opened, body.about)
    opened.rates.take(principal_of(request).name, LISTS)
    slate, way = await opened.line.preview(wanted, body.about)
    attributes = None
    if body.attributes or body.fields:
        attributes = ItemAttributes(opened.catalog, opened.models.current, body.fields or None)
    texts, headers = _texts(request, slate)
    answer = page_body(slate, attributes, texts) | funnel_body(way, body.about)
    return json_response(answer, headers=headers)


def _texts(request: Request, slate: MadeSlate) -> tuple[list[str], dict[str, str]]:
    """The reasons of an explained slate in the request's language, and the answer's headers."""
    language = accepted_language(request.headers.get("accept-language", ""))
    headers = {"Content-Language": language, "Vary": "Accept-Language"}
    return reason_texts(slate, language), headers


def _refuse_unknown_fields(request: Request, fields: Sequence[str]) -> None:
    """Raise `RequestValidationError` for an attribute that no item has."""
    if fields and (known := parts(request).attributes()):
        place = (_part_of(request), "fields")
        named = [(place, name) for name in fields if name != ITEM_ID]
        refuse_unknown("no item has an attribute {name}", named, known)


def refuse_unknown_placement(request: Request, name: str) -> None:
    """Raise `RequestValidationError` for a placement that there isn't: its rules would be lost."""
    if name and (known := parts(request).placements_without(name)) is not None:
        place = (_part_of(request), "placement")
        refuse_unknown("there is no placement {name} yet", [(place, name)], known)


def _part_of(request: Request) -> str:
    return "query" if request.method == "GET" else "body"


def accepted_language(accept_language: str) -> str:
    """The language of `PHRASES` that an `Accept-Language` prefers, or else the first."""
    best, most = next(iter(PHRASES)), 0.0
    for entry in accept_language.lower().split(","):
        tag, _, quality = entry.replace(" ", "").partition(";q=")
        name = tag.partition("-")[0]
        with suppress(ValueError):
            if name in PHRASES and (weight := float(quality or 1)) > most:
                best, most = name, weight
    return best


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer, written by orjson."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def require_item(opened: Parts, item_id: str) -> None:
    """Raise `NotFoundError` for an item that neither the model nor the catalogue knows."""
    current = opened.models.current
    in_model = current is not None and item_id in current.bundle.index
    if item_id not in opened.catalog and not in_model:
        raise NotFoundError(
            f"neither the model nor the catalogue knows the item {item_id!r}", code="item_not_found"
        )
