"""Conversion of single cells: ids, amounts, truth values, lists and times, as exports spell them.

Times are numbers, ISO 8601, dates with dots or slashes, and times of day.
"""

import math
import re
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from slipstream.contracts.spellings import truth_of
from slipstream.contracts.times import parse_iso
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
_CURRENCIES: Final = frozenset({
    *_SIGNS.values(), "CHF", "SEK", "NOK", "DKK", "CZK", "HUF", "CAD", "AUD", "NZD", "BRL", "MXN",
})  # fmt: skip


# Parts the levels of a category in product feeds.
_PATH: Final = re.compile(r"\s>\s")


# A column of which so many cells are of a kind is of that kind; the others are slips.
MOSTLY: Final = 0.9
_ADDRESS: Final = re.compile(r"[^@\s]+@[^@\s]+\.\w+")


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
        raise CellError("is not a text")
    if isinstance(value, float | Decimal):
        if value != int(value):
            raise CellError(f"{value} is not a whole number")
        value = int(value)
    text = str(value).strip()
    if len(text.encode(errors="replace")) > MAX_ID_BYTES:
        raise CellError(f"is longer than {MAX_ID_BYTES} bytes")
    if "\x00" in text:
        raise CellError("has a NUL character")
    return text


def decimal_mark(text: str) -> str | None:
    """The decimal mark of a number; None where it has none, or may have either (`1,299`)."""
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
    `mark` is the decimal mark of numbers such as `1,299`, which may be either.

    Raises:
        CellError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise CellError("is not a number")
    if not isinstance(value, str):
        if not math.isfinite(number := float(value)):
            raise CellError("is not a finite number")
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
        raise CellError(f"{value[:60]!r} is not a number")
    digits = re.sub(r"['’\s]", "", parts["number"]).rstrip(".,")
    own = decimal_mark(digits) or mark
    digits = digits.replace("," if own == "." else ".", "").replace(",", ".")
    if (plain := _plain(digits)) is None:
        raise CellError(f"{value[:60]!r} is not a number")
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
    """A list of texts: a list, a JSON array, texts between `|`, or a path such as `Shoes > Men`.

    Anything else, such as a number, is one text.
    """
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError as error:
                raise CellError(f"{value[:60]!r} is not a JSON array") from error
        else:
            value = value.split("|")
    if not isinstance(value, list | tuple):
        value = [value]
    if any(isinstance(entry, list | dict) for entry in value):
        raise CellError("is a list of something else than texts")
    parts = (part for entry in value if entry is not None for part in _PATH.split(str(entry)))
    return [text for part in parts if (text := part.strip())]


# Least number of each unit that is no time in the unit before: as seconds it is beyond the year
# 5138, as milliseconds before March 1973, and so on.
_UNIT_BOUNDS: Final = (("s", 10**11), ("ms", 10**14), ("us", 10**17))
_MS_PER_UNIT: Final = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_LAST_MS: Final = 253_402_300_800_000
_NUMERIC: Final = re.compile(r"[+-]?\d+(\.\d+)?")
_COMPACT_DATE: Final = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_DOTTED: Final = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})(?:,?[ T]+(.*))?")
_SLASHED: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})(?:,?[ T]+(.*))?")
_CLOCK: Final = re.compile(r"(?<=[T ])(\d\d?)(:\d\d(?::\d\d)?)(?:\s*([AP]M))?", re.IGNORECASE)
_TIME_OF_DAY: Final = re.compile(r"\d\d?:\d\d(:\d\d(\.\d+)?)?(\s*[AP]M)?", re.IGNORECASE)
_ZONED: Final = re.compile(r".*(\d[T ]\d|:).*?(Z|UTC|GMT|[+-]\d\d(:?\d\d)?)", re.IGNORECASE)


class TimeForm(NamedTuple):
    """The way in which a column spells times.

    Attributes:
        unit: Unit of bare numbers: s, ms, us or ns.
        zone: Zone of times that name none.
        pattern: Pattern of `strptime` that all times have; "" where they are recognised.
        day_first: Whether `1/2/2026` is the first of February; None where that is unknown.
    """

    unit: str = "ms"
    zone: tzinfo = UTC
    pattern: str = ""
    day_first: bool | None = None


def time_unit(number: float) -> str:
    """The unit of which this number is a time between 1973 and 5138, by its size."""
    return next((unit for unit, bound in _UNIT_BOUNDS if abs(number) < bound), "ns")


def bare_number(value: Any) -> float | None:
    """The number of a time that is one, and no date such as 20261001; else None."""
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        text = str(value)
        return None if _COMPACT_DATE.fullmatch(text) else float(value)
    if isinstance(value, str) and _NUMERIC.fullmatch(text := value.strip()):
        return None if _COMPACT_DATE.fullmatch(text) else float(text)
    return None


def has_zone(value: Any) -> bool:
    """Whether a time says in which zone it is, or is a number, which has none."""
    if isinstance(value, datetime):
        return value.tzinfo is not None
    if isinstance(value, str):
        return bool(_ZONED.fullmatch(value.strip())) or bare_number(value) is not None
    return not isinstance(value, date)


def day_is_first(value: Any) -> bool | None:
    """Whether `13/2/2026` has its day first; None where it is no such date, or may be either."""
    parts = _SLASHED.fullmatch(value.strip()) if isinstance(value, str) else None
    if parts is None:
        return None
    first, second = int(parts[1]) > 12, int(parts[2]) > 12
    return None if first == second else first


def is_ambiguous_date(value: Any) -> bool:
    """Whether a date has slashes and may be read in two ways."""
    text = value.strip() if isinstance(value, str) else ""
    return bool(_SLASHED.fullmatch(text)) and day_is_first(text) is None


def is_time_of_day(value: Any) -> bool:
    """Whether a cell is a time of day without a date, such as `9:05` or `21:05:30`."""
    return isinstance(value, time) or (
        isinstance(value, str) and bool(_TIME_OF_DAY.fullmatch(value.strip()))
    )


def at_clock(day: Any, clock: Any) -> Any:
    """A day with its time of day; the day as it is where it has one already."""
    return day if ":" in str(day) else f"{str(day).strip()} {str(clock).strip()}"


def read_time(value: Any, form: TimeForm = TimeForm()) -> int:
    """A time in ms since the epoch: a number, ISO 8601, or a date with dots or slashes.

    Raises:
        CellError: It is none of these, or lies before 1970 or after the year 9999.
    """
    try:
        millis = _millis(value, form)
    except (ValueError, OverflowError) as error:
        raise CellError(f"{str(value)[:60]!r} is not a time") from error
    if not 0 <= millis < _LAST_MS:
        raise CellError(f"{str(value)[:60]!r} is not a time between 1970 and 9999")
    return millis


def _millis(value: Any, form: TimeForm) -> int:
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=form.zone)
        return parse_iso(moment.isoformat())
    if isinstance(value, date):
        return parse_iso(datetime(value.year, value.month, value.day, tzinfo=form.zone).isoformat())
    if form.pattern:
        return _millis(datetime.strptime(str(value).strip(), form.pattern), form)
    if (number := bare_number(value)) is not None:
        # Whole numbers of ms stay exact, whatever their size.
        return math.floor(number * _MS_PER_UNIT[form.unit] + 0.5)
    text = str(value).strip()
    if parts := _DOTTED.fullmatch(text):
        text = _iso(parts[3], parts[2], parts[1], parts[4])
    elif parts := _SLASHED.fullmatch(text):
        first = day_is_first(text)
        if (first := form.day_first if first is None else first) is None:
            raise ValueError("day and month can't be told apart")
        day, month = (parts[1], parts[2]) if first else (parts[2], parts[1])
        text = _iso(parts[3], month, day, parts[4])
    text = _CLOCK.sub(_clock, text)
    text = re.sub(r"(?<=\d)\s*(UTC|GMT)$", "Z", text)
    text = re.sub(r"(?<=\d)\s+(?=[+-]\d\d)", "", text).replace("/", "-")
    return _millis(datetime.fromisoformat(text), form)


def _clock(parts: re.Match[str]) -> str:
    """A time of day with two digits of 24 hours: `8:26` is 08:26, `8:26 PM` is 20:26."""
    hour = int(parts[1])
    if half := parts[3]:
        if not 1 <= hour <= 12:
            raise ValueError("there is no such hour")
        hour = hour % 12 + (12 if half.upper() == "PM" else 0)
    return f"{hour:02}{parts[2]}"


# 1996 to 2040, in seconds. As milliseconds, most numbers of goods (EAN) are later.
_LIKELY_S: Final = range(820_000_000, 2_208_988_800)


def is_time(value: Any) -> bool:
    """Whether a cell is a time beyond doubt: a date, or a number from 1996 to 2040."""
    if (number := bare_number(value)) is not None:
        return int(number * _MS_PER_UNIT[time_unit(number)] / 1000) in _LIKELY_S
    try:
        read_time(value, TimeForm(day_first=True))
    except CellError:
        return False
    return True


def is_price(value: Any) -> bool:
    """Whether a cell is an amount with its currency."""
    try:
        return isinstance(value, str) and read_amount(value).currency in _CURRENCIES
    except CellError:
        return False


def is_address(value: Any) -> bool:
    """Whether a cell is an e-mail address."""
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value.strip()))


def _iso(year: str, month: str, day: str, clock: str | None) -> str:
    return f"{year}-{int(month):02}-{int(day):02}{f'T{clock}' if clock else ''}"
