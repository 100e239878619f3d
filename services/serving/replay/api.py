"""The routes of replays: answers made again, also in other circumstances, and prices of drafts."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse

from services.serving.http.responses import refuse_unknown_placement
from services.serving.replay.bodies import (
    AnswerReplay,
    PriceLine,
    PriceRequest,
    WhatIf,
    WhatIfAnswer,
)
from services.serving.replay.prices import Prices
from services.serving.replay.replays import Replays
from slipstream.chassis.access.guard import requires
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import Problem

router = APIRouter(prefix="/v1/answers", tags=["answers"])
RecommendationId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "no_slate"},
    409: {
        "model": Problem,
        "description": "no_circumstances, circumstances_too_large, model_gone, revision_gone",
    },
    503: {"model": Problem, "description": "unavailable, replays_busy"},
}


def replays(request: Request) -> Replays:
    """What the lifespan has opened."""
    opened: Replays = request.app.state.replays
    return opened


@router.get("/{recommendation_id}", responses=PROBLEMS)
@requires(Scope.OPERATE)
async def replayed_answer(request: Request, recommendation_id: RecommendationId) -> AnswerReplay:
    """An answer as it was recorded, and made again from the same history, model and rules.

    It takes seconds where the catalogue or the model of that time has to be fetched.
    """
    return await replays(request).answer(recommendation_id)


@router.post("/{recommendation_id}:what-if", responses=PROBLEMS)
@requires(Scope.OPERATE)
async def what_if(
    request: Request, recommendation_id: RecommendationId, body: WhatIf
) -> WhatIfAnswer:
    """The answer with another model, other rules or other shares, as changes to the list."""
    return await replays(request).what_if(recommendation_id, body)


price_router = APIRouter(prefix="/v1/prices", tags=["answers"])


def _refused(codes: str) -> dict[str, Any]:
    # With a `model`, FastAPI would document a refusal as lines of JSON.
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {"description": codes, "content": {"application/json": {"schema": schema}}}


PRICED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": PriceLine,
        "description": "lines of JSON: progress, and in the last one the price or a problem",
    },
    409: _refused("no_logs, mixed_currencies, model_gone, revision_gone"),
    422: _refused("invalid_request"),
    503: _refused("unavailable, replays_busy"),
}


class JsonLines(StreamingResponse):
    """Lines of JSON, each as it comes."""

    media_type = "application/x-ndjson"


@price_router.post("", response_class=JsonLines, responses=PRICED)
@requires(Scope.OPERATE)
async def price(request: Request, body: PriceRequest) -> JsonLines:
    """The change in clicks and revenue that a draft would bring, by slates of a sampled order.

    Each slate is made again, as it was and by the draft (docs/price.md). It takes minutes: a line a
    second says how far it is, and the last one has the price.
    """
    refuse_unknown_placement(request, body.placement)
    opened: Prices = request.app.state.prices
    return JsonLines(await opened.opened(body))
