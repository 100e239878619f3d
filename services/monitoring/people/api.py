"""REST routes about persons: receipts of erasures, and what is kept of visitors."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from services.monitoring.counting.outcomes_repository import OutcomeTable
from services.monitoring.people.receipts import receipt
from services.monitoring.people.repository import ErasureLedger
from services.monitoring.repository import RecordLog
from services.monitoring.settings import MonitoringSection
from slipstream.chassis.access.guard import requires
from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.access import Scope
from slipstream.contracts.late_records import may_be_on_its_way
from slipstream.contracts.rest import ErasureReceipt, ErasureState, ModelsBeforeErasure, Problem

# Columns that hold JSON.
_DOCUMENTS: Final = ("items", "body")


def exported(
    records: RecordLog, outcomes: OutcomeTable, visitor_ids: Collection[str]
) -> Iterator[bytes]:
    """Shadows of these visitors, the samples of open windows, the sums of experiments, credits, and
    the users that they became: one JSON object a line, `kind` first, in the order of their ids.
    """
    for kind, row in chain(records.rows_of(visitor_ids), outcomes.rows_of(visitor_ids)):
        # The names are of a subclass of str, which JSON does not know.
        told = {str(name): value for name, value in row.items()}
        opened = {name: orjson.loads(told[name]) for name in _DOCUMENTS if name in told}
        yield orjson.dumps({"kind": kind, **told, **opened}) + b"\n"


RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": ErasureReceipt, "description": "accepted; features has not read it"},
    404: {"model": Problem, "description": "no_erasure"},
}


@dataclass(frozen=True)
class PeopleParts:
    """The parts of the service that these routes use."""

    features: Peer
    training: Peer
    records: RecordLog
    outcomes: OutcomeTable
    ledger: ErasureLedger
    settings: MonitoringSection
    clock: Callable[[], int]


class Visitors(BaseModel):
    """Ids of visitors. The first line of features' export of a user is one, and more."""

    ids: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=10_000)]


router = APIRouter(prefix="/v1", tags=["people"])


@router.post("/visitors:export", response_class=StreamingResponse)
@requires(Scope.ADMIN)
def export_visitors(request: Request, body: Visitors) -> StreamingResponse:
    """Shadows, samples, credits and sums of experiments of these visitors, as lines of JSON.

    What they were shown and did is in the export of features.
    """
    parts: PeopleParts = request.app.state.people
    lines = exported(parts.records, parts.outcomes, body.ids)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/erasures/{erasure_id}", responses=RESPONSES)
@requires(Scope.READ)
def erasure(
    request: Request,
    response: Response,
    erasure_id: Annotated[str, Path(pattern=r"^[0-9A-Za-z_.-]{1,64}$")],
) -> ErasureReceipt:
    """The receipt of an erasure: place by place what is gone since when, or what it waits for.

    202 until features has read the request. An unknown id of the last day counts as one on its
    way.
    """
    parts: PeopleParts = request.app.state.people
    state, entry = _state(parts.features, erasure_id), parts.ledger.find(erasure_id)
    now = parts.clock()
    if state is None:
        if entry is None and not may_be_on_its_way(erasure_id, now):
            raise NotFoundError(f"no erasure {erasure_id} is known", code="no_erasure")
        response.status_code = 202
    models = _models(parts.training, state) if state is not None and state.erased_at else None
    return receipt(erasure_id, state, entry, models, parts.settings, now)


def _state(features: Peer, erasure_id: str) -> ErasureState | None:
    """What features knows of the erasure; None before it has read it."""
    try:
        return ErasureState.model_validate(features.get(f"/v1/erasures/{erasure_id}"))
    except PeerError as error:
        if error.status == 404:
            return None
        raise UnavailableError(str(error)) from error


def _models(training: Peer, state: ErasureState) -> ModelsBeforeErasure | None:
    """What training has from before an erasure that is done; None when it does not answer."""
    asked = {"lake_version": state.lake_version or 0, "erased_at": state.erased_at}
    try:
        return ModelsBeforeErasure.model_validate(
            training.get("/v1/models:before-erasure", **asked)
        )
    except (PeerError, ValidationError):
        return None
