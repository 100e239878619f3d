"""Names in requests. Parameters and fields that a route doesn't have are refused, with the one that
was most likely meant.

Ignored, a misspelt `filter` would show what it was to hide. A route of another's protocol takes any
name, since its clients decide what they send: its class says so, by `taking_any_name`.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from slipstream.contracts.spellings import did_you_mean

# Faults of a request that its answer lists.
MOST_FAULTS: Final = 20
# Unknown names that it lists: each is compared with all known ones.
_MOST_UNKNOWN: Final = 5
UNKNOWN_NAME: Final = "unknown_name"
# Characters of an unknown name that are shown.
_LONGEST: Final = 64
# Parameters that other programs add to an address which a page passes on: campaigns' tags, click
# ids of advertisers, and the time by which jQuery avoids a cache.
_CAMPAIGN: Final = "utm_"
_ADDED: Final = frozenset({"_", "fbclid", "gclid", "gbraid", "wbraid", "msclkid", "ttclid"})


def taking_any_name(reason: str, kind: type[APIRoute] = APIRoute) -> type[APIRoute]:
    """The kind of routes that ignore unknown parameters, for this reason."""
    return type(kind.__name__, (kind,), {"any_name_because": reason})


def any_name_because(route: object) -> str:
    """The reason for which a route ignores unknown parameters; empty where it refuses them."""
    reason: str = getattr(route, "any_name_because", "")
    return reason


def query_names(route: APIRoute) -> frozenset[str]:
    """The parameters of a route's query."""
    fields = route.dependant.query_params
    models = [_models_in(field.field_info.annotation) for field in fields]
    return frozenset(
        name
        for field, of_field in zip(fields, models, strict=True)
        for name in (_fields_of(of_field) if of_field else (field.alias,))
    )


def unknown_parameters(names: Collection[str], known: frozenset[str]) -> Sequence[str]:
    """The names of a query that are neither parameters of the route nor added by others."""
    if known.issuperset(names):
        return ()
    return [
        name
        for name in names
        if name not in known and name not in _ADDED and not name.startswith(_CAMPAIGN)
    ]


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse a query that names parameters which the route doesn't have.

    A dependency of every route. Raises `RequestValidationError`.
    """
    query, route = request.scope["query_string"], request.scope["route"]
    if not query or any_name_because(route):
        return
    known = query_names(route)
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    unknown = unknown_parameters(given, known)
    refuse_unknown(
        "unknown parameter", [(("query", name[:_LONGEST]), name) for name in unknown], known
    )


Place = tuple[str | int, ...]


def refuse_unknown(words: str, names: Iterable[tuple[Place, str]], known: Collection[str]) -> None:
    """Raise `RequestValidationError` for names that are not known.

    Args:
        words: What is wrong with one, which takes the place of `{name}`.
        names: The names, each with its place in the request, such as `("query", "fields")`.
    """
    unknown = [(place, name) for place, name in names if name not in known]
    if unknown:
        faults = [_fault(place, words, name, known) for place, name in unknown[:_MOST_UNKNOWN]]
        raise RequestValidationError(faults)


def _fault(place: Place, words: str, name: str, known: Collection[str]) -> dict[str, Any]:
    """A fault of a request as pydantic words its own."""
    reason = f"{words.replace('{name}', name[:_LONGEST])}; {did_you_mean(name, known)}"
    return {"type": UNKNOWN_NAME, "loc": place, "msg": reason, "input": name}


def unknown_field(body: Any, place: Place) -> dict[str, Any]:
    """The fault of a field that a body doesn't have. `place` is as pydantic tells it: `("body",
    "boosts", 0, "fiter")`.
    """
    models = _models_in(body)
    for part in place[1:-1]:
        inner = [model.model_fields[part] for model in models if part in model.model_fields]
        if inner:
            models = [each for field in inner for each in _models_in(field.annotation)]
        else:  # a place in a list, or the value of a field that tells the models of a union apart
            models = [model for model in models if _has_literal(model, part)] or models
    return _fault(place, "unknown field", str(place[-1]), set(_fields_of(models)))


def _fields_of(models: Collection[type[BaseModel]]) -> Iterator[str]:
    for model in models:
        yield from model.model_fields


def _has_literal(model: type[BaseModel], value: object) -> bool:
    return any(value in get_args(field.annotation) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, such as an optional list of one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in get_args(annotation) for model in _models_in(each)]
