"""Records of access keys, as monitoring publishes them."""

from collections.abc import Sequence
from typing import Any

from slipstream.chassis.access.keys import digest_of
from slipstream.contracts.access import AccessKey


def key_record(key: str, scopes: Sequence[str], **fields: Any) -> AccessKey:
    """The record of a key that is named like itself."""
    return AccessKey(
        **{"digest": digest_of(key), "name": key, "scopes": list(scopes), "created_at": 1} | fields
    )
