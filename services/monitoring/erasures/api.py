"""The REST route of erasures' receipts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import ValidationError

from services.monitoring.erasures.receipts import Receipt, receipt
from services.monitoring.settings import MonitoringSection
from slipstream.chassis.access.demands import requires
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.rest import ErasureState, ModelVersion, Problem

NO_ERASURE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "no_erasure"}}
_PAGE = 50


@dataclass(frozen=True)
class ErasureParts:
    """The parts of the service that this route uses."""

    features: Peer
    training: Peer
    settings: MonitoringSection
    clock: Callable[[], int]


router = APIRouter(prefix="/v1", tags=["people"])


@router.get("/erasures/{erasure_id}", responses=NO_ERASURE)
@requires(Scope.ERASE)
def erasure(
    request: Request, erasure_id: Annotated[str, Path(pattern=r"^[0-9A-Za-z_.-]{1,64}$")]
) -> Receipt:
    """The receipt of an erasure: place by place what is gone since when, or what it waits for.

    It is not found until features has read the request, which takes seconds.
    """
    parts: ErasureParts = request.app.state.erasures
    try:
        state = ErasureState.model_validate(parts.features.get(f"/v1/erasures/{erasure_id}"))
    except PeerError as error:
        if error.status == 404:
            raise NotFoundError(f"no erasure {erasure_id} is known", code="no_erasure") from error
        raise UnavailableError(str(error)) from error
    return receipt(state, _models(parts.training), parts.settings, parts.clock())


def _models(training: Peer) -> list[ModelVersion] | None:
    """All versions of models that training keeps; None when it does not answer."""
    models: list[ModelVersion] = []
    cursor: str | None = None
    try:
        while True:
            page = training.get("/v1/models", limit=_PAGE, **({"cursor": cursor} if cursor else {}))
            models += [ModelVersion.model_validate(item) for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return models
    except (PeerError, ValidationError, KeyError, TypeError):
        return None
