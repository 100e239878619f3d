"""The type of a filter expression in a body or query, checked when it is read."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from slipstream.filters.expressions import LONGEST, FilterError, parsed


def _checked(expression: str) -> str:
    if expression:
        try:
            parsed(expression)
        except FilterError as error:
            raise PydanticCustomError(
                "invalid_filter", "{words}", {"words": str(error), "position": error.position}
            ) from error
    return expression


FilterText = Annotated[
    str,
    AfterValidator(_checked),
    Field(
        max_length=LONGEST,
        description='what the items must meet, such as `category == "shoes" and price < 100` '
        "(docs/filters.md)",
    ),
]
