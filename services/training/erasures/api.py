"""The REST route about models from before an erasure."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from services.training.erasures.deletion import ModelDeletion
from slipstream.chassis.access.guard import requires
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import ModelsBeforeErasure

router = APIRouter(prefix="/v1", tags=["training"])

Whole = Annotated[int, Query(ge=0, lt=2**62)]


@router.get("/models:before-erasure")
@requires(Scope.READ)
def models_before_erasure(
    request: Request, lake_version: Whole, erased_at: Whole
) -> ModelsBeforeErasure:
    """What was learned from the lake before an erasure, and by when it is deleted.

    `lake_version` is the version of the interactions without the erased rows, `erased_at` when that
    was done (ms), both as features' receipt has them.
    """
    deletion: ModelDeletion = request.app.state.deletion
    return deletion.before(lake_version, erased_at)
