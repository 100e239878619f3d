"""Intake: authenticates a body, reads its messages, publishes them and answers. Knows no HTTP."""

import base64
import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from services.ingestion import catalog_entries
from services.ingestion.budgets import AddressBudget, setting
from services.ingestion.erasures import ErasureCuts
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.outcomes import Origin, Outcome, answer
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.segment import read_message
from services.ingestion.settings import IngestionSection
from slipstream.chassis.access.verifier import Verifier
from slipstream.chassis.addresses import network_of
from slipstream.chassis.bodies import LARGE_BYTES, LargeRequests, in_slices, refuse_many_values
from slipstream.chassis.errors import (
    ForbiddenError,
    InvalidRequestError,
    ServiceError,
    TooLargeError,
    UnauthorizedError,
)
from slipstream.chassis.logging import request_id
from slipstream.chassis.request_names import refuse_unknown
from slipstream.contracts.access import BROWSER_SCOPES, Principal, Scope
from slipstream.contracts.late_records import new_erasure_id
from slipstream.contracts.times import now_ms

Body = dict[str, Any]
# Reads a message of a body into its outcome. The last argument is the limit of a message's bytes,
# None if the whole body is within it.
Reader = Callable[[Any, Body, Origin, int | None], Outcome]


class IntakeHeaders(NamedTuple):
    """Headers of a request that intake reads, and the address that it came from.

    `origin` is None where no page sent it.
    """

    authorization: str | None = None
    agent: str = ""
    encoding: str = ""
    origin: str | None = None
    address: str = ""


class Intake:
    """Intake of bodies, with a verdict for each message as the answer."""

    def __init__(
        self,
        settings: IngestionSection,
        verifier: Verifier,
        publisher: OutcomePublisher,
        rules: IntakeRules,
        cuts: ErasureCuts,
    ) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self._max_event_bytes = settings.max_event_bytes
        self._max_messages = settings.max_batch_events, "max_batch_events"
        self._max_page_messages = min(
            (settings.browser_max_batch_events, "browser_max_batch_events"), self._max_messages
        )
        self._max_values = settings.max_body_values
        self._addresses = AddressBudget(settings.address_kib_per_s, settings.address_burst_kib)
        self._large = LargeRequests()
        keys = settings.write_keys.get_secret_value() + settings.browser_keys.get_secret_value()
        self._secret = hashlib.blake2b(keys.encode(), digest_size=32).digest()
        self._verifier = verifier
        self._publisher = publisher
        self._rules = rules
        self._cuts = cuts

    def admit(self, headers: IntakeHeaders) -> None:
        """Raise `TooManyRequestsError` for an address without credit, unless a server's key came.

        For before the body is read.
        """
        if self._addresses.exhausted(headers.address):
            key = key_in_header(headers.authorization) if headers.authorization else None
            known = self._verifier.find(key) if key else None
            if known is None or known.principal.browser:
                raise self._addresses.refusal(headers.address)

    def charge(self, headers: IntakeHeaders, size: int) -> None:
        """Charge the address for a request of this size that no server's key came with."""
        self._addresses.charge(headers.address, size)

    async def message(self, raw: bytes, headers: IntakeHeaders, kind: str | None) -> bytes:
        """Take one tracking call of this kind, such as `track`; None if it has its own `type`."""

        def read(message: Body, _body: Body, origin: Origin, limit: int | None) -> Outcome:
            return read_message(message, kind, {}, origin, self._rules, limit)

        scope = Scope.IDENTIFY if kind in ("identify", "alias") else Scope.EVENTS
        return await self._take(raw, headers, scope, None, read)

    async def batch(self, raw: bytes, headers: IntakeHeaders, *, imported: bool = False) -> bytes:
        """Take Segment's batch: messages of any type. With `imported` they may be of any age."""

        def read(message: Any, body: Body, origin: Origin, limit: int | None) -> Outcome:
            return read_message(message, None, body, origin, self._rules, limit)

        scope = Scope.IMPORT if imported else Scope.EVENTS
        return await self._take(raw, headers, scope, "batch", read, imported=imported)

    async def entries(
        self, raw: bytes, headers: IntakeHeaders, kind: catalog_entries.EntryKind
    ) -> bytes:
        """Take a list of items or users to upsert or to patch."""

        def read(entry: Any, _body: Body, origin: Origin, limit: int | None) -> Outcome:
            return catalog_entries.read_entry(entry, kind, origin, self._rules, limit)

        listed = "users" if kind in ("user", "user_patch") else "items"
        return await self._take(raw, headers, Scope.CATALOGUE, listed, read)

    async def patch(
        self, entity_id: str, raw: bytes, headers: IntakeHeaders, kind: catalog_entries.EntryKind
    ) -> bytes:
        """Take the patch of one item or user."""

        def read(patch: Any, _body: Body, origin: Origin, limit: int | None) -> Outcome:
            return catalog_entries.read_patch_of(entity_id, patch, kind, origin, self._rules, limit)

        return await self._take(raw, headers, Scope.CATALOGUE, None, read)

    async def delete(
        self, entity: catalog_entries.Entity, entity_id: str, headers: IntakeHeaders
    ) -> bytes:
        """Delete an item, or erase a user; the answer to an erasure has its `erasure_id`."""
        scope = Scope.ERASE if entity == "user" else Scope.CATALOGUE
        self.authorize(headers, scope)
        erasure_id, cut, asked_at = "", None, now_ms()
        if entity == "user":
            # The time comes first: the cut takes what is accepted while the broker is asked.
            erasure_id, cut = new_erasure_id(asked_at), await self._cuts.cut()
        verdicts = await self._take(
            b"{}",
            headers,
            scope,
            None,
            lambda _message, _body, origin, _limit: catalog_entries.deletion(
                entity, entity_id, origin._replace(received_at=asked_at), erasure_id, cut
            ),
        )
        answered: dict[str, Any] = orjson.loads(verdicts)
        if erasure_id and answered["accepted"]:
            answered["erasure_id"] = erasure_id
        return orjson.dumps(answered)

    def authorize(self, headers: IntakeHeaders, scope: Scope, write_key: str | None = None) -> None:
        """Raise `UnauthorizedError` or `ForbiddenError` unless the request's key has the scope.

        `write_key` counts where the headers have none.
        """
        self._principal(headers, {"writeKey": write_key}, scope)

    async def _take(
        self,
        raw: bytes,
        headers: IntakeHeaders,
        scope: Scope,
        listed: str | None,
        read: Reader,
        *,
        imported: bool = False,
    ) -> bytes:
        """Read a body's messages, publish what they make, and answer with the verdicts.

        Args:
            scope: The scope that the write key must have.
            listed: Name of the list of messages in the body; None if the body is the message.
            imported: Whether it is history.
        """
        # Before the wait for a turn, which is no time of an event.
        received_at = now_ms()
        large = len(raw) > LARGE_BYTES
        async with self._large.turn(large):
            if large:  # those before it may have spent the address's budget meanwhile
                self.admit(headers)
            try:
                body = self._parsed(raw)
                principal = self._principal(headers, body, scope)
            except ServiceError:
                self.charge(headers, len(raw))
                raise
            if principal.browser:
                self.charge(headers, len(raw))
            origin = Origin(
                principal.name,
                request_id.get(),
                received_at,
                headers.agent,
                imported,
                principal.scopes,
                principal.browser,
                self._network(headers.address) if principal.browser else "",
            )
            most = self._max_page_messages if principal.browser else self._max_messages
            messages = [body] if listed is None else _list(body, listed, *most)
            if listed is not None and scope is Scope.CATALOGUE:
                names = [(("body", name), name) for name in body]
                refuse_unknown("unknown field", names, [listed])
            self._rules.budgets.refuse_request(messages, len(raw), body.get("context"))
            limit = self._max_event_bytes if len(raw) > self._max_event_bytes else None
            outcomes = (
                [read(message, body, origin, limit) async for message in in_slices(messages)]
                if large
                else [read(message, body, origin, limit) for message in messages]
            )
            if self._rules.privacy.hashes:
                self._rules.budgets.refuse_grown(outcomes)
        published = await self._publisher.publish(outcomes, origin, single=listed is None)
        return orjson.dumps(answer(published))

    def _network(self, address: str) -> str:
        """A name for an address, which whoever reads Redis can't undo: the keys are its secret."""
        network = network_of(address).encode()
        return hashlib.blake2b(network, digest_size=12, key=self._secret).hexdigest()

    def _parsed(self, raw: bytes) -> Body:
        """The body as a JSON object. Raises `InvalidRequestError`, `TooLargeError`."""
        refuse_many_values(
            raw, self._max_values, f"send smaller batches ({setting('max_body_values')})"
        )
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidRequestError(
                f"The body is not JSON: {error}", code="invalid_json"
            ) from error
        if type(body) is not dict:
            raise InvalidRequestError("The body must be a JSON object", code="invalid_body")
        return body

    def _principal(self, headers: IntakeHeaders, body: Body, scope: Scope) -> Principal:
        """The holder of the request's write key, who must have the scope.

        Takes the key out of the body, since the body may become a dead letter.
        """
        in_body = body.pop("writeKey", None)
        key = (key_in_header(headers.authorization) if headers.authorization else None) or in_body
        known = self._verifier.find(key) if type(key) is str else None
        if known is None:
            missing = UnauthorizedError(
                "Send a write key: Basic authentication with the key as user name and no "
                "password, a bearer token, or writeKey in the body",
                code="invalid_write_key",
                headers={"WWW-Authenticate": 'Basic realm="slipstream"'},
            )
            raise self._verifier.refusal(headers.address, missing) if key else missing
        if known.origins and headers.origin not in known.origins:
            raise ForbiddenError(
                "This write key is not taken from this page's origin", code="foreign_origin"
            )
        holder = known.principal
        # Whatever a record grants: everyone knows a page's key.
        if scope not in holder.scopes or (holder.browser and scope not in BROWSER_SCOPES):
            raise ForbiddenError(
                f"This write key lacks the scope {scope}; docs/security.md lists what each route "
                "needs",
                code="scope_missing",
            )
        return holder


# Headers that are remembered with the key in them: a server sends the same one with each event.
_REMEMBERED: Final = 256


@lru_cache(_REMEMBERED)
def key_in_header(authorization: str) -> str | None:
    """The key in an `Authorization` header: a bearer token, or the user name of Basic
    authentication, as Segment's SDKs send it.
    """
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials or None
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0] or None
    except ValueError:  # no Base64, not even ASCII, or no text
        return None


def _list(body: Body, name: str, most: int, variable: str) -> list[Any]:
    """The body's list of this name, of at most `most` messages, which `variable` sets.

    Args:
        variable: Ingestion's setting of that.

    Raises:
        InvalidRequestError: There is no such list.
        TooLargeError: It is longer.
    """
    messages = body.get(name)
    if type(messages) is not list:
        raise InvalidRequestError(f"The body must have a list: {name}", code="invalid_body")
    if len(messages) > most:
        raise TooLargeError(
            f"{name} has {len(messages)} entries; send at most {most} at once ({setting(variable)})"
        )
    return messages
