"""The parts of serving that its routes share: what the lifespan has opened, and their answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import Path, Request, Response

from services.serving.http.bodies import ItemSlateQuery, SlateQuery, items_before
from services.serving.http.responses import ItemAttributes, page_body
from services.serving.request.explaining import LISTS
from services.serving.request.line import Line
from services.serving.request.load import KeyRates
from services.serving.state.model_holder import ModelHolder
from slipstream.chassis.access.guard import principal_of
from slipstream.chassis.errors import NotFoundError
from slipstream.contracts.events import Id
from slipstream.contracts.rest import Problem, RecommendationResponse
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.slate_request import SlateRequest, Step

ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"model": RecommendationResponse},
    422: {"model": Problem},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


@dataclass(frozen=True)
class Parts:
    """The parts of the service that its routes use."""

    line: Line
    models: ModelHolder
    catalog: Catalog
    rates: KeyRates = field(default_factory=lambda: KeyRates(0))
    variant_models: Callable[[], list[dict[str, Any]]] = list


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
        query: The query of the route.
        steps: The steps that may answer.
        similar_to: Items whose neighbours are wanted.
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
    opened = parts(request)
    opened.rates.take(principal_of(request).name, LISTS if wanted.explain else 1)
    slate = await opened.line.answer(wanted)
    attributes = ItemAttributes.wanted(query, opened.catalog, opened.models.current)
    return json_response(page_body(slate, attributes))


def json_response(content: Any, status: int = 200) -> Response:
    """A JSON answer, written by orjson."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def require_item(opened: Parts, item_id: str) -> None:
    """Raise `NotFoundError` for an item that neither the model nor the catalogue knows."""
    current = opened.models.current
    in_model = current is not None and item_id in current.bundle.index
    if item_id not in opened.catalog and not in_model:
        raise NotFoundError(
            f"neither the model nor the catalogue knows the item {item_id!r}", code="item_not_found"
        )
