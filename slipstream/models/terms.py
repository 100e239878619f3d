"""Terms of an item: its attribute values, and the words of its texts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_WORD = re.compile(r"\w\w+")


def terms(attributes: Mapping[str, Any]) -> Iterator[str]:
    """The terms of an item: `name=value` for each value, and the words of texts of several words.

    Lists give a term for each element; nulls give none.
    """
    for name, value in attributes.items():
        for element in value if isinstance(value, list | tuple) else (value,):
            if element is None or element == "":
                continue
            text = str(element).lower()
            yield f"{name}={text}"
            words = _WORD.findall(text)
            if len(words) > 1:
                yield from words
