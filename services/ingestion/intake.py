"""Intake: authenticates a body, reads its messages, publishes them and answers. Knows no HTTP."""

from collections.abc import Callable
from typing import Any

import orjson

from services.ingestion import catalog_entries
from services.ingestion.intake_rules import IntakeRules
from services.ingestion.publisher import OutcomePublisher
from services.ingestion.segment import read_message
from services.ingestion.settings import IngestionSection
from services.ingestion.verdicts import Origin, Outcome, answer
from services.ingestion.write_keys import WriteKeys, key_in_header
from slipstream.chassis.errors import InvalidRequestError, TooLargeError, UnauthorizedError
from slipstream.chassis.logging import request_id
from slipstream.contracts.times import now_ms

Body = dict[str, Any]
# Reads a body into an outcome for each of its messages. The third argument is the limit of bytes of
# one message, None if the whole body is within it.
Reader = Callable[[Body, Origin, int | None], list[Outcome]]


class Intake:
    """Intake of bodies, with a verdict for each message as the answer."""

    def __init__(
        self,
        settings: IngestionSection,
        keys: WriteKeys,
        publisher: OutcomePublisher,
        rules: IntakeRules,
    ) -> None:
        self.max_body_bytes = settings.max_body_bytes
        self._max_event_bytes = settings.max_event_bytes
        self._max_messages = settings.max_batch_events
        self._keys = keys
        self._publisher = publisher
        self._rules = rules

    async def message(
        self, raw: bytes, authorization: str | None, kind: str | None, agent: str = ""
    ) -> bytes:
        """Take one tracking call.

        Args:
            raw: The body.
            authorization: The `Authorization` header.
            kind: The call, such as `track`; None if the message has its own `type`.
            agent: The `User-Agent` header.
        """

        def read(body: Body, origin: Origin, limit: int | None) -> list[Outcome]:
            return [read_message(body, kind, {}, origin, self._rules, limit)]

        return await self._take(raw, authorization, read, agent, single=True)

    async def batch(
        self, raw: bytes, authorization: str | None, agent: str = "", *, imported: bool = False
    ) -> bytes:
        """Take Segment's batch: messages of any type. With `imported` they may be of any age."""

        def read(body: Body, origin: Origin, limit: int | None) -> list[Outcome]:
            return [
                read_message(message, None, body, origin, self._rules, limit)
                for message in self._list(body, "batch")
            ]

        return await self._take(raw, authorization, read, agent, imported)

    async def entries(
        self, raw: bytes, authorization: str | None, entity: catalog_entries.Entity
    ) -> bytes:
        """Take a bulk upsert of items or users."""

        def read(body: Body, origin: Origin, limit: int | None) -> list[Outcome]:
            return [
                catalog_entries.read_entry(entry, entity, origin, self._rules, limit)
                for entry in self._list(body, f"{entity}s")
            ]

        return await self._take(raw, authorization, read)

    async def delete(
        self, entity: catalog_entries.Entity, entity_id: str, authorization: str | None
    ) -> bytes:
        """Delete an item, or erase a user."""
        return await self._take(
            b"{}",
            authorization,
            lambda _body, origin, _limit: [catalog_entries.deletion(entity, entity_id, origin)],
        )

    async def _take(
        self,
        raw: bytes,
        authorization: str | None,
        read: Reader,
        agent: str = "",
        imported: bool = False,
        *,
        single: bool = False,
    ) -> bytes:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidRequestError(
                f"The body is not JSON: {error}", code="invalid_json"
            ) from error
        if type(body) is not dict:
            raise InvalidRequestError("The body must be a JSON object", code="invalid_body")
        origin = Origin(
            self._source(authorization, body),
            request_id.get(),
            now_ms(),
            agent,
            imported,
        )
        outcomes = read(
            body, origin, self._max_event_bytes if len(raw) > self._max_event_bytes else None
        )
        return orjson.dumps(answer(await self._publisher.publish(outcomes, origin, single=single)))

    def _source(self, authorization: str | None, body: Body) -> str:
        """The name of the write key.

        Takes the key out of the body, since the body may become a dead letter.
        """
        in_body = body.pop("writeKey", None)
        key = (key_in_header(authorization) if authorization else None) or in_body
        name = self._keys.name_of(key) if type(key) is str else None
        if name is None:
            raise UnauthorizedError(
                "Send a write key: Basic authentication with the key as user name and no password, "
                "or writeKey in the body",
                code="invalid_write_key",
                headers={"WWW-Authenticate": 'Basic realm="slipstream"'},
            )
        return name

    def _list(self, body: Body, name: str) -> list[Any]:
        messages = body.get(name)
        if type(messages) is not list:
            raise InvalidRequestError(f"The body must have a list: {name}", code="invalid_body")
        if len(messages) > self._max_messages:
            raise TooLargeError(
                f"{name} has {len(messages)} entries; send at most {self._max_messages} at once"
            )
        return messages
