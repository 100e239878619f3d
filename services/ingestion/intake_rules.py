"""Rules that messages are read by, from the settings, the mapping file and the tracking plan.

The plan is a JSON Schema for the properties of each named track event. Both files are read again
when they change while the service runs.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import jsonschema_rs
import orjson

from services.ingestion.budgets import Budgets
from services.ingestion.event_names import EventNames, read_mapping, token
from services.ingestion.fields import Code, RejectionError
from services.ingestion.privacy import Privacy
from services.ingestion.settings import IngestionSettings
from slipstream.chassis.access.keys import KeyRing
from slipstream.chassis.access.page_tokens import PageTokens
from slipstream.chassis.logging import get_logger
from slipstream.contracts.times import HOUR_MS


class _Validator(Protocol):
    def is_valid(self, instance: Any) -> bool: ...
    def iter_errors(self, instance: Any) -> Any: ...


class TrackingPlan:
    """Compiled schemas by event name.

    Names are compared by their `token`. An event that is not in the plan is allowed, unless
    `additional` is false. Raises ValueError, with the event's name, for an invalid JSON Schema.
    """

    def __init__(self, events: Mapping[str, Any], *, additional: bool = True) -> None:
        self._additional = additional
        self._validators: dict[str, _Validator] = {}
        for name, schema in events.items():
            if (known := token(name)) in self._validators:
                raise ValueError(f"events: {name!r} is there twice, spelt in two ways")
            try:
                # Values may be personal, so reasons must not quote them: a mask stands for each.
                # Nothing is fetched.
                validator = jsonschema_rs.validator_for(
                    schema, mask="the value", validate_formats=True, offline=True
                )
            except (
                jsonschema_rs.ValidationError,
                jsonschema_rs.ReferencingError,
                ValueError,
            ) as error:
                message = getattr(error, "message", str(error)).splitlines()[0]
                raise ValueError(f"events: {name!r} is no JSON Schema: {message}") from error
            self._validators[known] = cast(_Validator, validator)

    def check(self, event: str, properties: dict[str, Any]) -> None:
        """Reject an event that breaks the plan, with the first field that does."""
        validator = self._validators.get(token(event))
        if validator is None:
            if not self._additional:
                raise RejectionError(
                    Code.PLAN_VIOLATION, "the tracking plan has no such event", "event"
                )
            return
        if validator.is_valid(properties):
            return
        error = next(iter(validator.iter_errors(properties)))
        path = ["properties", *map(str, error.instance_path)]
        if error.kind.name == "required":
            path.append(error.kind.property)
        raise RejectionError(
            Code.PLAN_VIOLATION,
            f"the tracking plan does not allow it: {error.message}",
            ".".join(path),
        )


def read_plan(data: bytes) -> TrackingPlan:
    """A plan from its file, `{"events": {name: schema}, "additional": "allow"}`.

    Raises ValueError, with the reason, for a wrong file.
    """
    try:
        plan = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if type(plan) is not dict or type(plan.get("events")) is not dict:
        raise ValueError(
            'it must be a JSON object with "events", an object of JSON Schemas by event name'
        )
    if unknown := sorted(plan.keys() - {"events", "additional"}):
        raise ValueError(f"it has {', '.join(unknown)}; a plan may only have events and additional")
    additional = plan.get("additional", "allow")
    if additional not in ("allow", "reject"):
        raise ValueError(
            'additional, the rule for events that are not in the plan, must be "allow" or "reject"'
        )
    return TrackingPlan(plan["events"], additional=additional == "allow")


log = get_logger(__name__)

LOOK_EVERY_S = 3.0


class WatchedFile:
    """A file. Its bytes go to `take`, at once and whenever the file has changed.

    `take` raises ValueError for wrong bytes. At the start that, or an unreadable file, raises
    ValueError with the file's name. Later it is logged, and the last good content stays.
    """

    def __init__(self, path: str | Path, take: Callable[[bytes], None]) -> None:
        self._path, self._take = Path(path), take
        self._seen: tuple[int, ...] = ()
        try:
            self._seen = self._look()
            take(self._path.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._path}: {error}") from error

    def refresh(self) -> None:
        """Read the file again if it has changed since the last look."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._take(self._path.read_bytes())
        except (OSError, ValueError) as error:
            if self._seen:
                log.error(
                    "file not read again; its last good content stays",
                    path=str(self._path),
                    reason=str(error),
                )
            if isinstance(error, OSError):
                self._seen = ()
            return
        log.info("file read again", path=str(self._path))

    def _look(self) -> tuple[int, ...]:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


async def follow(files: Sequence[WatchedFile], every_s: float = LOOK_EVERY_S) -> None:
    """Refresh the files every `every_s` seconds, for ever. Returns at once if there are none."""
    while files:
        await asyncio.sleep(every_s)
        for file in files:
            await asyncio.to_thread(file.refresh)


@dataclass(slots=True)
class IntakeRules:
    """The rules of the moment. Names and plan are replaced when their files have changed.

    `max_late_ms` is the age on arrival up to which an event is taken that is not imported; None
    allows any age. `page_tokens` verifies what pages say about their users.
    """

    names: EventNames = field(default_factory=EventNames)
    plan: TrackingPlan | None = None
    privacy: Privacy = field(default_factory=Privacy)
    refuse_bots: bool = True
    max_late_ms: int | None = 24 * HOUR_MS
    budgets: Budgets = field(default_factory=Budgets)
    files: list[WatchedFile] = field(default_factory=list)
    page_tokens: PageTokens = field(default_factory=lambda: PageTokens(KeyRing()))

    @classmethod
    def of(cls, settings: IngestionSettings) -> "IntakeRules":
        """The rules of these settings. Raises ValueError, with the reason, for a wrong file."""
        section = settings.ingestion
        rules = cls(
            privacy=settings.privacy.policy(),
            refuse_bots=section.bot_filter,
            max_late_ms=int(section.max_late_hours * HOUR_MS) or None,
            budgets=section.budgets(),
        )
        if section.event_mapping:
            rules.files.append(WatchedFile(section.event_mapping, rules._take_mapping))
        if section.tracking_plan:
            rules.files.append(WatchedFile(section.tracking_plan, rules._take_plan))
        return rules

    def _take_mapping(self, data: bytes) -> None:
        self.names = read_mapping(data)

    def _take_plan(self, data: bytes) -> None:
        self.plan = read_plan(data)
