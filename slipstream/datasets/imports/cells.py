"""Conversion of single cells: ids, amounts, truth values and lists, as exports spell them."""

import math
import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from slipstream.contracts.spellings import truth_of
from slipstream.contracts.vocabulary import MAX_ID_BYTES

_MISSING: Final = frozenset({"", "null", "none", "nan", "n/a", "\\n"})
# No decimal mark but a dot explains these.
_CLEAR_NUMBER: Final = re.compile(r"-?\d{1,15}(\.(\d\d?|\d{4,15}))?")
_AMOUNT: Final = re.compile(
    r"(?P<open>\()?\s*(?P<before>[^\d()+.,\s−-]{0,5})\s*(?P<sign>[+−-]?)\s*"
    r"(?P<before2>[^\d()+.,\s−-]{0,5})\s*(?P<number>\d[\d.,'’\s]*|[.,]\d+)"
    r"(?P<minus>-?)\s*(?P<after>[^\d()+,\s−-]{0,5})\s*\)?"
)
_SIGNS: Final = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR", "zł": "PLN"}


# Parts the levels of a category in product feeds.
_PATH: Final = re.compile(r"\s>\s")


class CellError(ValueError):
    """A cell can't be read. The message says why, and is to follow the column's name."""


class Amount(NamedTuple):
    """A number, and the currency that its cell names: a code of ISO 4217, or as it stands."""

    number: float
    currency: str = ""


def is_missing(value: Any) -> bool:
    """Whether a cell is empty, or spells that it is."""
    if value is None:
        return True
    if isinstance(value, str):
        return (len(value) < 5 and value.strip().lower() in _MISSING) or not value.strip()
    return isinstance(value, float) and math.isnan(value)


def read_id(value: Any) -> str:
    """An id as a string; whole numbers are taken as their digits."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise CellError("is no text")
    if isinstance(value, float | Decimal):
        if value != int(value):
            raise CellError(f"{value} is no whole number")
        value = int(value)
    text = str(value).strip()
    if len(text.encode(errors="replace")) > MAX_ID_BYTES:
        raise CellError(f"is longer than {MAX_ID_BYTES} bytes")
    if "\x00" in text:
        raise CellError("has a NUL character")
    return text


def decimal_mark(text: str) -> str | None:
    """The decimal mark that a number must have; None where it has none, or `1,299` may be either.

    Args:
        text: A number, perhaps with separators of thousands and a currency.
    """
    digits = "".join(re.findall(r"[\d.,]", text)).strip(".,")
    comma, dot = digits.rfind(","), digits.rfind(".")
    if comma < 0 and dot < 0:
        return None
    if comma >= 0 and dot >= 0:
        return "," if comma > dot else "."
    mark, other = (",", ".") if comma >= 0 else (".", ",")
    whole, *groups = digits.split(mark)
    if len(groups) > 1:
        return other
    could_be_thousands = len(groups[0]) == 3 and 1 <= len(whole) <= 3 and whole != "0"
    return None if could_be_thousands else mark


def read_amount(value: Any, mark: str = ".") -> Amount:
    """A number, perhaps with a currency and separators: `EUR 12,90`, `1.299,00 €`, `(12.90)`.

    Args:
        value: The cell.
        mark: Decimal mark of numbers such as `1,299`, which may be either.

    Raises:
        CellError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise CellError("is no number")
    if not isinstance(value, str):
        if not math.isfinite(number := float(value)):
            raise CellError("is no finite number")
        return Amount(number)
    if _CLEAR_NUMBER.fullmatch(value):
        return Amount(float(value))
    text = value.replace("\xa0", " ").replace("\u202f", " ").strip()
    text = re.sub(r"(?<=\d)[.,][-–](?=\s|$)", "", text)  # 5.-
    if (plain := _plain(text)) is not None and decimal_mark(text) == ".":
        return Amount(plain)
    parts = _AMOUNT.fullmatch(text)
    if parts is None:
        if plain is not None and math.isfinite(plain):  # 1e-3
            return Amount(plain)
        raise CellError(f"{value[:60]!r} is no number")
    digits = re.sub(r"['’\s]", "", parts["number"]).rstrip(".,")
    own = decimal_mark(digits) or mark
    digits = digits.replace("," if own == "." else ".", "").replace(",", ".")
    if (plain := _plain(digits)) is None:
        raise CellError(f"{value[:60]!r} is no number")
    negative = parts["sign"] in ("-", "−") if parts["sign"] else False
    negative = negative or bool(parts["minus"]) or bool(parts["open"])
    name = (parts["before"] or parts["before2"] or parts["after"]).strip()
    return Amount(-plain if negative else plain, _SIGNS.get(name, name.upper()))


def _plain(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def read_flag(value: Any) -> bool:
    """A truth value, by any of its words."""
    truth = truth_of(value)
    if truth is None:
        raise CellError(
            f"{str(value)[:60]!r} is neither true nor false; --map THEIRS= leaves the column out"
        )
    return truth


def read_list(value: Any) -> list[str]:
    """A list of texts: a list, a JSON array, texts between `|`, or a path such as `Shoes > Men`."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise CellError(f"{value[:60]!r} is no JSON array") from error
        else:
            value = value.split("|")
    if not isinstance(value, list | tuple):
        raise CellError("is no list")
    if any(isinstance(entry, list | dict) for entry in value):
        raise CellError("is a list of something else than texts")
    parts = (part for entry in value if entry is not None for part in _PATH.split(str(entry)))
    return [text for part in parts if (text := part.strip())]
