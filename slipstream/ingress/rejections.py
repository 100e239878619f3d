"""Rejections of data that a client sent, each with a stable code."""

from enum import StrEnum


class Code(StrEnum):
    """Reason why data is rejected. Stable: clients and the dead letters' tools branch on it."""

    NOT_AN_OBJECT = "not_an_object"
    EVENT_TOO_LARGE = "event_too_large"
    NESTED_TOO_DEEPLY = "nested_too_deeply"
    UNSUPPORTED_TYPE = "unsupported_type"
    MISSING_USER = "missing_user"
    MISSING_GROUP = "missing_group"
    MISSING_ITEM = "missing_item"
    MISSING_NAME = "missing_name"
    INVALID_NAME = "invalid_name"
    INVALID_ID = "invalid_id"
    INVALID_OBJECT = "invalid_object"
    INVALID_VALUE = "invalid_value"
    INVALID_TIMESTAMP = "invalid_timestamp"
    TIMESTAMP_IN_SECONDS = "timestamp_in_seconds"
    TIMESTAMP_IN_FUTURE = "timestamp_in_future"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    PLAN_VIOLATION = "plan_violation"
    SCOPE_MISSING = "scope_missing"
    BOT = "bot"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_LINKS = "too_many_links"


class RejectionError(Exception):
    """Raised for data that breaks a rule. `field` is its path in the data as it was sent.

    `reason` may name fields but quotes no value, since values may be personal.
    """

    def __init__(self, code: Code, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.field = code, reason, field
