"""The routes of replays: an answer made again, and made again in other circumstances."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request

from services.serving.replay.bodies import AnswerReplay, WhatIf, WhatIfAnswer
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
