"""Tracking plan: a JSON Schema for the properties of each named track event."""

from collections.abc import Mapping
from typing import Any, Protocol, cast

import jsonschema_rs
import orjson

from services.ingestion.event_names import token
from slipstream.ingress.fields import Code, RejectionError


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
