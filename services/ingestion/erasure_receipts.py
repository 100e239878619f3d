"""Receipts of erasures, asked of monitoring: who erases a user needs no other address."""

import re
from typing import Final

from pydantic import ValidationError

from slipstream.chassis.client import Peer, PeerError
from slipstream.chassis.errors import NotFoundError, UnavailableError
from slipstream.contracts.rest import ErasureReceipt

_RETRY_AFTER_S: Final = 5
_ID: Final = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class ErasureReceipts:
    """The receipts, which monitoring makes. For several threads."""

    def __init__(self, monitoring: Peer) -> None:
        self._monitoring = monitoring

    def find(self, erasure_id: str) -> ErasureReceipt:
        """The receipt of an erasure.

        Raises:
            NotFoundError: Nobody knows such an erasure.
            UnavailableError: Monitoring, or features behind it, does not answer.
        """
        unknown = NotFoundError(f"no erasure {erasure_id!r} is known", code="no_erasure")
        if not _ID.fullmatch(erasure_id):
            raise unknown
        try:
            answer = self._monitoring.get(f"/v1/erasures/{erasure_id}")
            return ErasureReceipt.model_validate(answer)
        except PeerError as error:
            if error.status == 404:
                raise unknown from error
            raise _unavailable(str(error)) from error
        except (ValidationError, ValueError) as error:
            raise _unavailable(f"monitoring's receipt can't be read: {error}") from error


def _unavailable(reason: str) -> UnavailableError:
    return UnavailableError(
        f"The erasure goes on; its receipt can't be made now: {reason}",
        code="receipt_unavailable",
        retry_after_s=_RETRY_AFTER_S,
    )
