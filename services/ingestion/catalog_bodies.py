"""Descriptions of the catalogue's bodies for OpenAPI; `catalog_entries` reads them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from services.ingestion.documentation import Id, Time


class ItemBody(BaseModel):
    """An item; every further field is an attribute, beside these or under `attributes`."""

    model_config = ConfigDict(extra="allow")

    item_id: Id
    available: bool = Field(True, description="false keeps it out of recommendations")
    title: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    price: float | None = Field(None, ge=0)
    image_url: str | None = None
    expires_at: Time | None = Field(
        None, description="no longer recommended from then on; ISO 8601 or milliseconds"
    )
    attributes: dict[str, Any] | None = None


class ItemsBody(BaseModel):
    """Items to insert or replace."""

    items: list[ItemBody] = Field(
        examples=[
            [{"item_id": "sku-1", "title": "Blue shoes", "categories": ["shoes"], "price": 59.9}]
        ]
    )


class ItemPatch(BaseModel):
    """Changes of an item; every further field is an attribute. Null removes an attribute."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"price": 49.9, "sale": None}]}
    )

    item_id: Id | None = Field(None, description="in a list required")
    available: bool | None = None
    title: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    price: float | None = Field(None, ge=0)
    image_url: str | None = None
    expires_at: Time | None = None
    attributes: dict[str, Any] | None = None


class ItemPatches(BaseModel):
    """Changes of items."""

    items: list[ItemPatch]


class User(BaseModel):
    """A user; every further field is an attribute."""

    model_config = ConfigDict(extra="allow")

    user_id: Id
    attributes: dict[str, Any] | None = None


class Users(BaseModel):
    """Users to insert or replace."""

    users: list[User]
