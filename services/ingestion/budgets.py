"""Budgets: what one event, one request and one address may cost, judged before anything is made.

A small body can become a large load. Each entry of `products` and `impressions` becomes a record
with the event's ids and its short properties, and a number such as 1e15 is longer written out. So
records and bytes are counted from above, from what is copied, and no record is made for counting.

An address has a budget of bytes that come without a server's key. Parsing costs time before a key's
own rates can be asked: they count records, and Redis has them. So each replica keeps a debt by
address, in memory, which time pays off.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from services.ingestion import fields
from services.ingestion.fields import MAX_DEPTH, MAX_EVENT_BYTES, Code, RejectionError
from services.ingestion.outcomes import Acceptance, Outcome, Rejection
from slipstream.broker.records import encode
from slipstream.chassis.addresses import network_of
from slipstream.chassis.errors import TooLargeError, TooManyRequestsError
from slipstream.contracts.vocabulary import MAX_ID_BYTES, REFUNDED

# Properties with entries that become records.
LISTS: Final = ("products", "impressions")
# Properties of an event that each of its products gets a copy of, if they are short scalars. An
# order of hundreds of products must not become hundreds of copies of everything.
SHARED: Final = (
    "order_id",
    "checkout_id",
    "cart_id",
    "list_id",
    "category",
    "currency",
    "coupon",
    "affiliation",
    "query",
    "placement",
    REFUNDED,
)
SHARED_LENGTH: Final = 256
# Most bytes of a record's field names, times, type and flags, and of an id that is made for it.
RECORD_BYTES: Final = 450
# What a value of a body may take in a record, at most, in its own bytes: 1e15 has 18 digits.
EXPANSION: Final = 5
_SETTINGS: Final = {
    Code.NESTED_TOO_DEEPLY: "max_event_depth",
    Code.EVENT_TOO_LARGE: "max_event_bytes",
}
# A page's category becomes a property.
_COPIED_FIELDS: Final = ("userId", "anonymousId", "messageId", "category")
_COPIED_PROPERTIES: Final = ("session_id", "recommendation_id", *SHARED)


def setting(name: str) -> str:
    """The variable of a setting of ingestion, for answers that name what was exceeded."""
    return f"SLIPSTREAM_INGESTION__{name.upper()}"


@dataclass(frozen=True, slots=True)
class Budgets:
    """The most that an event and a request may be and become.

    Attributes:
        event_bytes: Bytes of an event as JSON.
        event_depth: Levels of nesting of an event.
        event_records: Records that an event makes.
        request_records: Records that a request makes, dead letters included.
        request_bytes: Bytes of these records.
    """

    event_bytes: int = MAX_EVENT_BYTES
    event_depth: int = MAX_DEPTH
    event_records: int = 500
    request_records: int = 10_000
    request_bytes: int = 8 * 2**20

    def refuse_request(self, messages: Sequence[Any], body_bytes: int, context: Any = None) -> None:
        """Raise `TooLargeError` for messages that may become more than a request may.

        Args:
            messages: The messages as parsed JSON of any kind.
            body_bytes: Size of the body, unpacked.
        """
        records, copied = len(messages), 0
        for message in messages:
            if type(message) is dict:
                listed = self._listed(message)
                if listed:
                    records += listed
                    copied += listed * _copied_bytes(message, context)
                elif "traits" in message:  # a link of the visitor and the traits
                    records += 1
        if records > self.request_records:
            raise TooLargeError(
                f"The request would make up to {records} records, of which at most "
                f"{self.request_records} are taken at once "
                f"({setting('max_request_records')}); send smaller batches"
            )
        self._refuse_bytes(EXPANSION * body_bytes + RECORD_BYTES * records + copied)

    def refuse_grown(self, outcomes: Sequence[Outcome]) -> None:
        """Raise `TooLargeError` if the records of a request exceed their limit of bytes.

        For records that are no longer what `refuse_request` counted.
        """
        size = 0
        for outcome in outcomes:
            if isinstance(outcome, Acceptance):
                size += sum(len(encode(record)) for record in outcome.records)
            elif isinstance(outcome, Rejection):
                with suppress(orjson.JSONEncodeError):  # too deep to be kept in a dead letter
                    size += len(orjson.dumps(outcome.original))
        self._refuse_bytes(size)

    def _refuse_bytes(self, size: int) -> None:
        if size > self.request_bytes:
            raise TooLargeError(
                f"The request's records would have up to {size} bytes, of which at most "
                f"{self.request_bytes} are taken at once ({setting('max_request_bytes')}); "
                "send smaller batches"
            )

    def refuse_event(self, message: dict[str, Any], max_bytes: int | None, noun: str) -> None:
        """Reject an event that is nested too deeply or has more bytes than `max_bytes`.

        Args:
            message: The event, or an entry of the catalogue.
            max_bytes: Most bytes as JSON; None if it is known to have fewer.
            noun: What it is, for the reason.
        """
        try:
            fields.refuse_deep(message, self.event_depth)
            if max_bytes is not None:
                fields.refuse_large(message, max_bytes, noun)
        except RejectionError as error:
            if (name := _SETTINGS.get(error.code)) is None:
                raise
            raise RejectionError(error.code, f"{error.reason} ({setting(name)})") from None

    def refuse_many(self, products: Any, impressions: list[Any] | None) -> None:
        """Reject an event if its products and impressions make too many records."""
        products = products if type(products) is list else None
        if len(products or [None]) + len(impressions or ()) > self.event_records:
            raise RejectionError(
                Code.EVENT_TOO_LARGE,
                f"an event may make at most {self.event_records} records of its products and "
                f"impressions ({setting('max_event_records')})",
                "properties.products" if products else "properties.impressions",
            )

    def _listed(self, message: dict[str, Any]) -> int:
        """The number of a message's products and impressions, 0 for one that is rejected alone."""
        properties = message.get("properties")
        if type(properties) is not dict:
            return 0
        listed = 0
        for name in LISTS:
            if type(entries := properties.get(name)) is list:
                listed += len(entries)
        return listed if listed <= self.event_records else 0


def _copied_bytes(message: dict[str, Any], context: Any) -> int:
    """Bytes of what each product and each impression of a message gets a copy of."""
    properties, own = message["properties"], message.get("context", context)
    values = [message.get(name) for name in _COPIED_FIELDS]
    values += [properties.get(name) for name in _COPIED_PROPERTIES]
    if type(own) is dict:
        values.append(own.get("sessionId"))
    # Longer ids are rejected, and longer properties are not copied.
    longest = max(MAX_ID_BYTES, SHARED_LENGTH)
    return len(
        orjson.dumps(
            [
                value[:longest] if type(value) is str else value
                for value in values
                if type(value) in (str, int, float, bool)
            ]
        )
    )


KIB: Final = 1024
# Addresses with debts that a replica remembers; the eldest debt is forgotten first.
MOST_ADDRESSES: Final = 50_000


class AddressBudget:
    """Debts of addresses, in bytes. An address in debt beyond the burst is refused.

    A request is let in by the debt before it, and charged when its size is known. So a large batch
    is taken, and the next one waits.

    Args:
        kib_per_s: KiB of debt that a second pays off; 0: nothing is refused.
        burst_kib: KiB of debt from which requests are refused.
        clock: Tells the time in seconds.
    """

    def __init__(
        self, kib_per_s: float, burst_kib: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kib_per_s, self._burst_kib = kib_per_s, burst_kib
        self._clock = clock
        # By address: the moment at which all is paid off.
        self._paid_at: dict[str, float] = {}

    def exhausted(self, address: str) -> bool:
        """Whether the address has no credit left."""
        return bool(self._paid_at) and self._wait_s(address) > 0

    def refusal(self, address: str) -> TooManyRequestsError:
        """The error for a request of an address without credit."""
        return TooManyRequestsError(
            f"Without a server's key in the header, an address may send {self._kib_per_s:g} KiB a "
            f"second, and {self._burst_kib} KiB at once",
            retry_after_s=max(1, math.ceil(self._wait_s(address))),
            limit=self._burst_kib,
        )

    def charge(self, address: str, size: int) -> None:
        """Add a request of `size` bytes to the address's debt, as whole KiB."""
        if not self._kib_per_s:
            return
        network, now = network_of(address), self._clock()
        paid_at = max(self._paid_at.pop(network, now), now)
        # Put last: those before it were charged earlier.
        self._paid_at[network] = paid_at + (1 + size // KIB) / self._kib_per_s
        if len(self._paid_at) > MOST_ADDRESSES:
            self._forget(now)

    def _wait_s(self, address: str) -> float:
        """Seconds until the address has credit again; 0 or less when it has."""
        paid_at = self._paid_at.get(network_of(address))
        if paid_at is None:
            return 0.0
        return paid_at - self._clock() - self._burst_kib / self._kib_per_s

    def _forget(self, now: float) -> None:
        """Drop what is paid off; where nothing is, the half that was charged longest ago."""
        kept = {name: paid_at for name, paid_at in self._paid_at.items() if paid_at > now}
        eldest = len(kept) - MOST_ADDRESSES // 2
        self._paid_at = dict(list(kept.items())[max(0, eldest) :])
