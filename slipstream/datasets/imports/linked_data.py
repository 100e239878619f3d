"""Products of schema.org in JSON-LD, as rows with the names of items' fields."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_BEGINNING: Final = re.compile(r'\s*(\[\s*)?\{[^{}]*?"@(context|type|graph|id)"\s*:')
# Members that hold further things: graphs, lists, feeds, and the variants of a group.
_HOLDERS: Final = (
    "@graph", "itemListElement", "dataFeedElement", "item", "mainEntity", "hasVariant",
)  # fmt: skip
_IDS: Final = ("sku", "productID", "gtin13", "gtin14", "gtin12", "gtin8", "gtin", "mpn", "@id")
_MOST_DEPTH: Final = 16
_MOST_PROPERTIES: Final = 200
# Members with a place of their own in a row.
_READ: Final = frozenset({
    "name", "image", "url", "brand", "category", "offers", "isVariantOf", "inProductGroupWithID",
    "productGroupID", "aggregateRating", "additionalProperty", "description", *_HOLDERS,
})  # fmt: skip


def is_linked_data(beginning: Sequence[str]) -> bool:
    """Whether a text that begins with these lines is JSON-LD."""
    return bool(_BEGINNING.match("".join(beginning)))


def products(value: Any, group: Mapping[str, Any] | None = None, depth: int = 0) -> Iterator[Any]:
    """The rows of all products in a document, variants with what they share with their group.

    Args:
        value: A document, or a part of it.
        group: The row of the group whose variants these are.
        depth: How deep the part lies; beyond 16 nothing is read.
    """
    if depth > _MOST_DEPTH:
        return
    if isinstance(value, list):
        for each in value:
            yield from products(each, group, depth + 1)
    if not isinstance(value, dict):
        return
    kinds = _texts(value.get("@type"))
    is_group = "ProductGroup" in kinds
    shared = _row(value, group or {}) if is_group else group
    if not is_group and any(kind in ("Product", "IndividualProduct") for kind in kinds):
        yield _row(value, group or {})
    for holder in _HOLDERS:
        if holder in value:
            yield from products(value[holder], shared, depth + 1)


def _row(product: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    own = {
        name: value
        for name, value in product.items()
        if name not in _READ and not name.startswith("@") and not isinstance(value, dict | list)
    }
    is_group = "ProductGroup" in _texts(product.get("@type"))
    parent = _first(product.get("isVariantOf"))
    category = _names(product.get("category"))
    found = {
        "item_id": next((product[name] for name in _IDS if product.get(name)), None),
        "title": _text(product.get("name")),
        "description": _text(product.get("description")),
        "image_url": _url(product.get("image")),
        "url": _url(product.get("url")),
        "brand": next(iter(_names(product.get("brand"))), None),
        "categories": category[0] if len(category) == 1 else category or None,
        "item_group_id": product.get("productGroupID")
        or product.get("inProductGroupWithID")
        or (parent.get("productGroupID") if isinstance(parent, dict) else None),
        **_offer(product.get("offers")),
        **_rating(product.get("aggregateRating")),
        **_properties(product.get("additionalProperty")),
    }
    if is_group:
        found["item_id"] = None
    return {**group, **own, **{name: each for name, each in found.items() if each is not None}}


def _offer(offers: Any) -> dict[str, Any]:
    """Price, currency and availability of the first offer; of an aggregate, its lowest price."""
    offer = _first(offers)
    if not isinstance(offer, dict):
        return {}
    inner = _first(offer.get("offers"))
    specification = _first(offer.get("priceSpecification"))
    found: dict[str, Any] = {}
    for source in (offer, specification, inner):
        if not isinstance(source, dict):
            continue
        price = source.get("price", source.get("lowPrice"))
        for name, value in (
            ("price", price),
            ("currency", source.get("priceCurrency")),
            ("available", source.get("availability")),
        ):
            if value is not None:
                found.setdefault(name, value)
    return found


def _rating(rating: Any) -> dict[str, Any]:
    if not isinstance(rating, dict):
        return {}
    return {
        "rating": rating.get("ratingValue"),
        "rating_count": rating.get("ratingCount", rating.get("reviewCount")),
    }


def _properties(properties: Any) -> dict[str, Any]:
    listed = properties if isinstance(properties, list) else [properties]
    return {
        each["name"]: each["value"]
        for each in listed[:_MOST_PROPERTIES]
        if isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("value"), str | int | float)
    }


def _names(value: Any) -> list[str]:
    """Texts, or the names of things."""
    listed = value if isinstance(value, list) else [value]
    names = [each.get("name") if isinstance(each, dict) else each for each in listed]
    return [name for name in names if isinstance(name, str)]


def _text(value: Any) -> Any:
    first = _first(value)
    return first.get("@value") if isinstance(first, dict) else first


def _url(value: Any) -> Any:
    first = _first(value)
    if isinstance(first, dict):
        return first.get("url") or first.get("contentUrl") or first.get("@id")
    return first


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _texts(value: Any) -> list[str]:
    """The types of a thing, without the address of schema.org before them."""
    listed = value if isinstance(value, list) else [value]
    return [re.split(r"[/#:]", each)[-1] for each in listed if isinstance(each, str)]
