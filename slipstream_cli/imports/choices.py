"""Options that say what the columns, types, times and numbers of a file mean."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from slipstream.datasets.imports.understanding import Choices

_OPTIONS: Final = (
    click.option(
        "--map",
        "mapped",
        multiple=True,
        metavar="THEIRS=OURS",
        help="Column of the file and the field that it is, as in customer_id=user_id; nothing"
        " behind = leaves it out. Repeatable. Default: by the usual names.",
    ),
    click.option(
        "--event-type",
        help="Type of the rows that name none, such as purchase. Default: none; such rows are"
        " asked about.",
    ),
    click.option(
        "--type",
        "types",
        multiple=True,
        metavar="THEIRS=OURS",
        help="Type of the file and what it means: view, click, cart, purchase, rate, like,"
        " wishlist, remove, a name of your own, or skip. Repeatable. Default: by the usual names.",
    ),
    click.option(
        "--time-unit",
        type=click.Choice(["s", "ms", "us", "ns"]),
        help="Unit of times that are numbers. Default: by their size.",
    ),
    click.option(
        "--time-format",
        help="Pattern of times, as in '%d/%m/%Y %H:%M'. Default: ISO 8601, 31.12.2026, or numbers.",
    ),
    click.option(
        "--timezone", "zone", help="Zone of times without one, as in Europe/Berlin. Default: UTC."
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="Decimal mark of numbers such as 1,299. Default: that of the others.",
    ),
    click.option(
        "--text",
        "texts",
        multiple=True,
        metavar="COLUMN",
        help="Column whose numbers are texts; repeatable. Default: none.",
    ),
    click.option("--encoding", help="Encoding of text files. Default: found by itself."),
    click.option(
        "--delimiter", help="Delimiter of CSV files; \\t for tabs. Default: found by itself."
    ),
)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as keywords, for `choices_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def choices_of(
    *,
    mapped: tuple[str, ...],
    event_type: str | None,
    types: tuple[str, ...],
    time_unit: str | None,
    time_format: str | None,
    zone: str | None,
    decimal: str | None,
    texts: tuple[str, ...],
    encoding: str | None,
    delimiter: str | None,
) -> "Choices":
    """Return the choices that the options make.

    Raises:
        click.BadParameter: A value is malformed.
    """
    from slipstream.contracts.spellings import token
    from slipstream.datasets.imports.understanding import Choices

    delimiter = (delimiter or "").replace("\\t", "\t")
    if len(delimiter) > 1:
        raise click.BadParameter("must be one character", param_hint="--delimiter")
    return Choices(
        columns=_pairs(mapped, "--map"),
        event_type=_type(event_type, "--event-type") if event_type else "",
        types={
            token(name): _type(ours, "--type") for name, ours in _pairs(types, "--type").items()
        },
        encoding=_encoding(encoding or ""),
        delimiter=delimiter,
        time_unit=time_unit or "",
        time_format=time_format or "",
        zone=_zone(zone or ""),
        decimal=decimal or "",
        texts=frozenset(texts),
    )


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for entry in given:
        theirs, equals, ours = entry.rpartition("=")
        if not equals or not theirs:
            raise click.BadParameter(f"{entry!r}: expected THEIRS=OURS", param_hint=option)
        pairs[theirs.strip()] = ours.strip()
    return pairs


def _type(name: str, option: str) -> str:
    from slipstream.datasets.imports.columns import chosen_type

    try:
        return chosen_type(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _encoding(name: str) -> str:
    import codecs

    try:
        return codecs.lookup(name).name if name else ""
    except LookupError as error:
        raise click.BadParameter(f"{name!r} is no encoding", param_hint="--encoding") from error


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name).key if name else ""
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(
            f"{name!r} is no time zone such as Europe/Berlin", param_hint="--timezone"
        ) from error
