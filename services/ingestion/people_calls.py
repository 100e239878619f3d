"""Reading of what calls say about people: identify and alias, and a page's word on its user.

What a page says of a user is taken with the token that the shop's server signs for it, and kept
apart without (docs/adr/0065).
"""

from typing import Any, Final

from services.ingestion import fields
from services.ingestion.fields import Code, RejectionError
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Origin
from slipstream.chassis.access.page_tokens import Unproven
from slipstream.contracts.events import CatalogRecord, NewInteraction
from slipstream.contracts.page_visitors import MAX_PAGE_ID_BYTES, apart_id
from slipstream.contracts.vocabulary import MERGED_INTO

Message = dict[str, Any]
Records = list[NewInteraction | CatalogRecord]

# The field of `context` with the token of a page's user.
TOKEN: Final = "userToken"  # noqa: S105
TIME_FIELDS: Final = ("timestamp", "originalTimestamp")


def taken_token(message: Message, context: Any) -> Any:
    """The token of a page's user, from the context of its message or of the batch.

    It is taken out of the message, which may become a dead letter.
    """
    if type(context) is not dict:
        return None
    return context.pop(TOKEN, None) if "context" in message else context.get(TOKEN)


def doubt_of(message: Message, token: Any, kind: str | None, rules: IntakeRules) -> Unproven | None:
    """The reason why a page's message in a user's name is not proven; None where it names none."""
    user_id = fields.as_id(message.get("userId"), "userId")
    if user_id is None:
        return None
    is_alias = (kind or message.get("type")) == "alias"
    previous = fields.as_id(message.get("previousId"), "previousId") if is_alias else None
    anonymous_id = previous or fields.as_id(message.get("anonymousId"), "anonymousId")
    return rules.page_tokens.doubt(token, user_id, anonymous_id)


def visitor_apart(user_id: str | None, anonymous_id: str | None) -> str:
    """The visitor of events that a page sends in a user's name without proof."""
    name, field = (anonymous_id, "anonymousId") if anonymous_id else (user_id, "userId")
    assert name is not None  # noqa: S101
    _refuse_long(name, field)
    return apart_id(name)


def _refuse_long(name: str, field: str) -> None:
    if len(name.encode()) > MAX_PAGE_ID_BYTES:
        raise RejectionError(
            Code.INVALID_ID,
            f"{field} has more than {MAX_PAGE_ID_BYTES} bytes, which a page's may have",
            field,
        )


def read_identify(
    message: Message,
    user_id: str | None,
    anonymous_id: str | None,
    timestamp: int,
    origin: Origin,
    rules: IntakeRules,
    unproven: Unproven | None,
) -> Records:
    """A user's catalogue entry, and the record that the anonymous visitor is that user.

    Without traits there is no entry, since it would replace the one before.
    """
    records: Records = []
    if user_id is not None and anonymous_id is not None and user_id != anonymous_id:
        records.append(_identity(anonymous_id, user_id, timestamp, origin, unproven))
    traits = rules.privacy.published(fields.as_object(message.get("traits"), "traits"))
    if traits:
        entity_id = user_id or anonymous_id
        assert entity_id is not None  # noqa: S101
        records.append(
            CatalogRecord(
                entity="user",
                entity_id=entity_id,
                attributes=traits,
                timestamp=timestamp,
                source=origin.source,
                by_browser=origin.browser,
                client_time=any(message.get(name) is not None for name in TIME_FIELDS),
            )
        )
    return records


def read_alias(
    message: Message,
    user_id: str | None,
    anonymous_id: str | None,
    timestamp: int,
    origin: Origin,
    unproven: Unproven | None,
) -> Records:
    """The record that the visitor `previousId`, else `anonymousId`, is the user `userId`.

    No record if both are the same.
    """
    if user_id is None:
        raise RejectionError(
            Code.MISSING_USER, "userId, the visitor's id from now on, is required", "userId"
        )
    previous = fields.as_id(message.get("previousId"), "previousId") or anonymous_id
    if previous is None:
        raise RejectionError(
            Code.MISSING_USER, "previousId, the visitor's id before, is required", "previousId"
        )
    if previous == user_id:
        return []
    return [_identity(previous, user_id, timestamp, origin, unproven)]


def _identity(
    visitor: str, user_id: str, timestamp: int, origin: Origin, unproven: Unproven | None
) -> CatalogRecord:
    if origin.browser:
        _refuse_long(visitor, "anonymousId")
    return CatalogRecord(
        entity="identity",
        entity_id=visitor,
        attributes={MERGED_INTO: user_id},
        timestamp=timestamp,
        source=origin.source,
        by_browser=origin.browser,
        proven=origin.browser and unproven is None,
    )
