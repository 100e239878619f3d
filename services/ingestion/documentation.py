"""Descriptions of bodies and answers for OpenAPI.

Requests are not validated against these models, which would refuse a body whole. `segment` and
`catalog_entries` check them, and give a verdict for each message.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.ingestion.outcomes import Verdicts
from slipstream.chassis.bodies import body_schema
from slipstream.contracts.rest import PROBLEM_JSON, ErasureReceipt, Problem

Id = str | int
Time = str | int


class _Call(BaseModel):
    model_config = ConfigDict(extra="allow")

    messageId: Id | None = Field(
        None, description="unique; made and returned when missing. Becomes the event's id"
    )
    userId: Id | None = Field(None, description="this or anonymousId is required")
    anonymousId: Id | None = None
    timestamp: Time | None = Field(
        None, description="ISO 8601 or milliseconds; when missing, the moment of receipt"
    )
    sentAt: Time | None = Field(
        None, description="the client's clock when it sent; corrects timestamp for clock skew"
    )
    context: dict[str, Any] | None = Field(None, description="sessionId and userAgent are read")
    writeKey: str | None = Field(None, description="where Basic authentication can't be used")


class Track(_Call):
    """Something that a visitor did."""

    event: str = Field(
        description="a Segment name such as 'Product Viewed', or a type: view, click, cart, "
        "purchase, rate, search, …"
    )
    properties: dict[str, Any] | None = Field(
        None,
        description="item_id (or product_id, sku), or products; value, rating, price, quantity, "
        "position, recommendation_id, …; impressions, a list of the items shown with it",
        examples=[{"product_id": "sku-1", "price": 19.9, "recommendation_id": "…", "position": 0}],
    )


class Page(_Call):
    """A page view; one with an item's id is a view of the item."""

    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None


class Screen(Page):
    """A screen of an app; one with an item's id is a view of the item."""


class Identify(_Call):
    """Traits of a user, which replace the earlier ones.

    With userId and anonymousId, also that this anonymous visitor is the user.
    """

    traits: dict[str, Any] | None = None


class GroupBody(_Call):
    """Membership of a visitor in a group."""

    groupId: Id
    traits: dict[str, Any] | None = Field(None, description="traits of the group")


class Alias(_Call):
    """Merge of two ids into one visitor."""

    userId: Id = Field(description="the visitor's id from now on")
    previousId: Id | None = Field(
        None, description="the visitor's id before; when missing, anonymousId"
    )


class MessageBody(_Call):
    """A call within a batch, with the fields of its type."""

    type: Literal["track", "page", "screen", "identify", "group", "alias"]
    event: str | None = None
    name: str | None = None
    category: str | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    groupId: Id | None = None
    previousId: Id | None = None


class BatchBody(BaseModel):
    """Several calls. `context` and `sentAt` count for each message that has none of its own."""

    batch: list[MessageBody]
    sentAt: Time | None = None
    context: dict[str, Any] | None = None
    writeKey: str | None = None


# Parts of the document that operations refer to.
COMPONENTS: dict[str, dict[str, Any]] = {
    "securitySchemes": {
        "writeKey": {
            "type": "http",
            "scheme": "basic",
            "description": "The write key as user name, no password",
        }
    },
    "schemas": {"Problem": Problem.model_json_schema()},
}


def described(body: type[BaseModel] | None = None) -> dict[str, Any]:
    """Arguments of a route that describe its body, answers and authentication.

    They cost a request nothing, unlike parameters and dependencies of FastAPI.
    """
    extra: dict[str, Any] = {"security": [{"writeKey": []}]}
    refusals = {**REFUSALS}
    if body is not None and body.model_config.get("extra") == "forbid":
        refusals[422] = "A field next to the list of entries is unknown"
    if body is not None:
        extra["security"].append({})  # the key may be in the body
        extra["requestBody"] = {
            "required": True,
            "description": "At most 500 KB of JSON, whatever the content type says; may be sent "
            "with Content-Encoding: gzip",
            "content": {"application/json": {"schema": body_schema(body)}},
        }
    return {
        "openapi_extra": extra,
        "responses": {
            200: {
                "model": Verdicts,
                "description": "A verdict for each message; the broker has acknowledged accepted "
                "ones",
            },
            **{status: _refusal(description) for status, description in refusals.items()},
        },
    }


REFUSALS = {
    400: "The body is not JSON, or not of the documented shape",
    401: "The write key is missing or wrong",
    403: "The write key lacks the scope, or is not taken from this page's origin",
    413: "Too many bytes, or too many messages",
    429: "The write key, or the visitor of a single event, has sent too much: try again after "
    "`Retry-After` seconds",
    503: "The broker is unavailable: nothing was accepted, try again after `Retry-After` seconds",
}


def _refusal(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


# The same for the receipt of an erasure.
RECEIPT: dict[str, Any] = {
    "openapi_extra": {"security": [{"writeKey": []}]},
    "responses": {
        200: {"model": ErasureReceipt, "description": "The receipt as it is now"},
        202: {"model": ErasureReceipt, "description": "Accepted; the erasure has not begun"},
        401: _refusal(REFUSALS[401]),
        403: _refusal(REFUSALS[403]),
        404: _refusal("The erasure does not exist"),
        503: _refusal("Monitoring does not answer: the erasure goes on, its receipt waits"),
    },
}
_VERDICT_HEADER = {
    "X-Slipstream-Verdict": {
        "description": "`accepted`, `duplicate`, `rejected; code=…; field=…` or, of the whole "
        "request, `refused; code=…`",
        "required": True,
        "schema": {"type": "string"},
    }
}


def _gif(description: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": description,
        "headers": _VERDICT_HEADER,
        "content": {"image/gif": binary},
    }


def _in_query(name: str, description: str, *, required: bool) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


# The same for the pixel, which answers with a picture even if the message is rejected.
PIXEL: dict[str, Any] = {
    "openapi_extra": {
        "security": [{"writeKey": []}, {}],
        "parameters": [
            _in_query(
                "data",
                "a message as JSON or its Base64, of either alphabet; without `type` a track call",
                required=True,
            ),
            _in_query("writeKey", "unless it is in the message or in the header", required=False),
        ],
    },
    "responses": {
        200: _gif("A picture of one dot; the verdict is in the header"),
        **{status: _gif(description) for status, description in REFUSALS.items()},
    },
}
