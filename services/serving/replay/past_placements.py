"""Placements by their revision, from monitoring, which keeps every revision."""

from urllib.parse import quote

from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import ConflictError
from slipstream.contracts.placements import Placement


def past_placement(monitoring: Peer, name: str, revision: int) -> Placement | None:
    """A revision of a placement; None for revision 0, which stands for no placement.

    Raises `PeerError`, and `ConflictError` where there is no such revision.
    """
    if not revision:
        return None
    found: list[object] = []
    try:
        path = f"/v1/placements/{quote(name, safe='')}/revisions"
        found = monitoring.get(path, limit=1, cursor=revision + 1)["items"]
    except PeerError as error:
        if error.status != 404:
            raise
    placement = Placement.model_validate(found[0]) if found else None
    if placement is None or placement.revision != revision:
        raise ConflictError(
            f"monitoring has no revision {revision} of placement {name}", code="revision_gone"
        )
    return placement
