"""Records of outcomes: what a message becomes on its topic, and the dead letter of a bad one."""

from typing import Any, Final

import orjson

from services.ingestion.verdicts import NOT_KEPT, Acceptance, Origin, Outcome, Rejection
from slipstream.broker.producer import OutgoingRecord
from slipstream.contracts.events import CatalogRecord, DeadLetter, NewInteraction
from slipstream.contracts.item_patches import patch_key
from slipstream.contracts.topics import DEAD_LETTERS, INTERACTIONS, topic_of
from slipstream.ingress import fields
from slipstream.ingress.fields import RejectionError

# Most bytes of a rejected message in its dead letter. As a text it has at most twice as many, and
# the client of the broker refuses records of 1 MiB.
MAX_ORIGINAL_BYTES: Final = 256 * 1024


def records_of(outcomes: list[Outcome], origin: Origin) -> list[OutgoingRecord]:
    """The records of a request for all topics."""
    outgoing: list[OutgoingRecord] = []
    for outcome in outcomes:
        if type(outcome) is Acceptance:
            for record in outcome.records:
                if type(record) is NewInteraction:
                    outgoing.append(
                        OutgoingRecord(INTERACTIONS, record.user_id, record, origin.request_id)
                    )
                else:
                    assert isinstance(record, CatalogRecord)  # noqa: S101
                    outgoing += _of_catalog(record, origin.request_id)
        elif isinstance(outcome, Rejection) and outcome.error.code not in NOT_KEPT:
            outgoing.append(
                OutgoingRecord(
                    DEAD_LETTERS, origin.source, _dead_letter(outcome, origin), origin.request_id
                )
            )
    return outgoing


def _of_catalog(record: CatalogRecord, request_id: str) -> list[OutgoingRecord]:
    """An entry, or a user's erasure with the tombstone by which compaction drops the entries."""
    topic, key = topic_of(record), f"{record.entity}:{record.entity_id}"
    if record.entity == "item_patch":
        key = patch_key(record)
    if not record.erasure_id:
        return [OutgoingRecord(topic, key, record, request_id)]
    # Under a key of its own, a later entry of the user does not make compaction drop it unread.
    return [
        OutgoingRecord(topic, key, None, request_id),
        OutgoingRecord(topic, f"erasure:{record.erasure_id}", record, request_id),
    ]


def _dead_letter(outcome: Rejection, origin: Origin) -> DeadLetter:
    error = outcome.error
    return DeadLetter(
        source=origin.source,
        code=error.code,
        reason=error.reason,
        field=error.field,
        original=_keepable(outcome.original),
        received_at=origin.received_at,
        request_id=origin.request_id,
        by_browser=origin.browser,
    )


def _keepable(original: Any) -> Any:
    """The original of a dead letter, as every consumer can take it.

    One that is nested deeper than JSON parsers allow becomes its text. Of a larger one than
    `MAX_ORIGINAL_BYTES` only the beginning of the text is kept.
    """
    if type(original) not in (dict, list, str):
        return original
    try:
        text = orjson.dumps(original)
    except orjson.JSONEncodeError:
        return "(nested too deeply to be kept)"
    if len(text) > MAX_ORIGINAL_BYTES:
        return text[:MAX_ORIGINAL_BYTES].decode(errors="ignore")
    if type(original) is not str:
        try:
            fields.refuse_deep(original)
        except RejectionError:
            return text.decode()
    return original
