"""The bodies of the API as OpenAPI shows them. Requests are not checked against these models but by `segment` and `catalog`,
which give a verdict for each message where a model would refuse the body whole."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.ingestion.verdicts import Answer
from slipstream.contracts.rest import PROBLEM_JSON, Problem


class _Call(BaseModel):
    model_config = ConfigDict(extra="allow")

    messageId: str | None = Field(None, description="unique; made and returned when missing. Becomes the event's id")
    userId: str | None = Field(None, description="this or anonymousId is required")
    anonymousId: str | None = None
    timestamp: str | int | None = Field(None, description="ISO 8601 or milliseconds; when missing, the moment of receipt")
    sentAt: str | int | None = Field(None, description="the client's clock when it sent; corrects timestamp for clock skew")
    context: dict[str, Any] | None = Field(None, description="sessionId is read")
    writeKey: str | None = Field(None, description="where Basic authentication can't be used")


class Track(_Call):
    """Something that a visitor did."""

    event: str = Field(description="'Product Viewed' and the like, or a type: view, click, cart, purchase, rate, search, …")
    properties: dict[str, Any] = Field(
        default_factory=dict,
        description="item_id (or product_id, sku), or products; value, rating, price, quantity, position, recommendation_id, …",
        examples=[{"product_id": "sku-1", "price": 19.9, "recommendation_id": "…", "position": 0}],
    )


class Page(_Call):
    """A page view; one with an item's id is a view of the item."""

    name: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)


class Identify(_Call):
    """What is known of a user; replaces what was known before."""

    traits: dict[str, Any] = Field(default_factory=dict)


class Message(_Call):
    """A call within a batch."""

    type: Literal["track", "page", "identify"]


class Batch(BaseModel):
    """Several calls. `context` and `sentAt` count for each message that has none of its own."""

    batch: list[Message]
    sentAt: str | int | None = None
    context: dict[str, Any] | None = None
    writeKey: str | None = None


class Item(BaseModel):
    """An item; every further field is an attribute."""

    model_config = ConfigDict(extra="allow")

    item_id: str
    available: bool = Field(True, description="false keeps it out of recommendations")
    attributes: dict[str, Any] = Field(default_factory=dict)


class Items(BaseModel):
    """Items to insert or replace."""

    items: list[Item] = Field(examples=[[{"item_id": "sku-1", "title": "Blue shoes", "categories": ["shoes"], "price": 59.9}]])


class User(BaseModel):
    """A user; every further field is an attribute."""

    model_config = ConfigDict(extra="allow")

    user_id: str
    attributes: dict[str, Any] = Field(default_factory=dict)


class Users(BaseModel):
    """Users to insert or replace."""

    users: list[User]


SECURITY_SCHEMES = {"writeKey": {"type": "http", "scheme": "basic", "description": "The write key as user name, no password"}}


def described(body: type[BaseModel] | None = None) -> dict[str, Any]:
    """The arguments of a route that describe its body, its answers and its authentication, at no cost to a request."""
    extra: dict[str, Any] = {"security": [{"writeKey": []}]}
    if body is not None:
        schema = body.model_json_schema()
        # References inside one operation would have to name a place in the whole document: put the definitions in their place.
        schema = _inlined(schema, schema.pop("$defs", {}))
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}

    def refusal(description: str) -> dict[str, Any]:
        return {"description": description, "content": {PROBLEM_JSON: {"schema": Problem.model_json_schema()}}}

    return {
        "openapi_extra": extra,
        "responses": {
            200: {"model": Answer, "description": "A verdict for each message; accepted ones are acknowledged by the broker"},
            400: refusal("The body is not JSON, or not of the documented shape"),
            401: refusal("The write key is missing or wrong"),
            413: refusal("Too many bytes, or too many messages"),
            503: refusal("The broker is away: nothing was accepted, try again after `Retry-After` seconds"),
        },
    }


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, dict):
        if (reference := schema.get("$ref")) is not None:
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(value, definitions) for value in schema]
    return schema
