"""Options, preview, questions and outcome of an import, which `import` and `replay` share.

Options say what the columns, types, times and numbers of a file mean. The preview has questions
that it leaves open. The lake tells which events a file adds. The outcome has counts, what comes
next, and the exit status.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import click

from slipstream_cli.options import option_of

if TYPE_CHECKING:
    from slipstream.datasets.imports.conversion import RejectedRows
    from slipstream.datasets.imports.sending import ReplayReport
    from slipstream.datasets.imports.sources import ExportFile
    from slipstream.datasets.imports.surveys import Export, Refused, Survey
    from slipstream.datasets.imports.understanding import Choices, Kind
    from slipstream_cli.local.terminal import Terminal


_LAKE: Final = "SLIPSTREAM_LAKE__URI"
# Rows of the lake that are looked at; of more, ingestion's verdicts are shown.
MOST_ROWS: Final = 5_000_000
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
        help="Column of numbers to read as texts; repeatable. Default: none.",
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
            f"{name!r} is not a time zone such as Europe/Berlin", param_hint="--timezone"
        ) from error


def with_known_items(
    previewed: "list[tuple[Export, Survey]]", terminal: "Terminal", data_dir: Path
) -> "list[tuple[Export, Survey]]":
    """The files, with the column of ids that the events name, where it is another.

    Args:
        previewed: The files with their figures.
        terminal: Shows the figures of a file that is read by another column.
        data_dir: Data folder of the stack that knows items, if it runs.

    Raises:
        click.ClickException: Another column has these ids, and there is no terminal to ask at.
    """
    from slipstream.datasets.imports.surveys import foreign_ids

    kinds = {export.understanding.kind for export, _ in previewed}
    foreign = foreign_ids(previewed, _catalogue(data_dir) if kinds == {"events"} else ())
    if foreign is None:
        return previewed
    column = foreign.column
    if not column:
        click.echo(f"Note: {foreign}.")
        return previewed
    if not is_asked():
        option = quote(f"{column}=item_id")
        raise click.ClickException(f"{foreign}: --map {option}?")
    if not click.confirm(f"{foreign}. Is `{column}` the item_id?", default=True):
        return previewed
    return [
        preview(
            export.file,
            replace(export.choices, columns={**export.choices.columns, column: "item_id"}),
            export.understanding.kind,
            terminal,
        )
        if column in export.form.columns
        else (export, survey)
        for export, survey in previewed
    ]


def _catalogue(data_dir: Path) -> frozenset[str]:
    """Ids of items of the running stack; none where it does not answer, or has over 1,000."""
    from slipstream.chassis.client import PeerError
    from slipstream_cli.peers import peer_at, stack_on

    running = stack_on(data_dir)
    with suppress(PeerError):
        if running:
            page = peer_at("features", running["features"]).get("/v1/items", limit=1_000)
            if page["next_cursor"] is None:
                return frozenset(item["item_id"] for item in page["items"])
    return frozenset()


# More unknown types are a sign that the column is none of types.
_MOST_ASKED: Final = 20


def is_asked() -> bool:
    """Whether somebody sits at a terminal, and can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def preview(
    file: "ExportFile",
    choices: "Choices",
    kind: "Kind | None",
    terminal: "Terminal",
    refused: "Refused | None" = None,
    *,
    asking: bool = True,
) -> "tuple[Export, Survey]":
    """Survey a file, show its figures, and settle what is open.

    Args:
        choices: What the options say.
        kind: Whether it has events or items; None where its columns shall tell.
        terminal: Shows the figures, and progress.
        refused: Called with each row that can't be sent; None for a count alone.
        asking: Whether somebody at a terminal is asked about what is open.

    Raises:
        click.ClickException: The file can't be read, or a question can't be put to the user.
    """
    from slipstream.datasets.imports.sources import ImportFileError
    from slipstream.datasets.imports.surveys import (
        OpenQuestionError,
        describe,
        offered,
        open_export,
        questions,
        refuse_without_items,
    )

    def reading(rows: int) -> None:
        terminal.progress(f"{file.name}: {rows:,} rows read")

    while True:
        try:
            export = open_export(file, choices, kind)
            survey = export.survey(reading, refused)
            refuse_without_items(export, survey)
        except OpenQuestionError as error:
            if not (asking and is_asked() and error.offered):
                raise click.ClickException(str(error)) from error
            terminal.progress("")
            choices = _with_columns(choices, error.offered, {})
            continue
        except ImportFileError as error:
            raise click.ClickException(str(error)) from error
        finally:
            terminal.progress("")
        terminal.show(_listed(file.name, describe(export, survey)))
        asked = questions(export, survey)
        if not asked:
            return export, survey
        if not (asking and is_asked()) or len(survey.unknown_types) > _MOST_ASKED:
            raise click.ClickException(_listed(file.name, asked))
        choices = _with_columns(
            _answered(choices, survey), offered(export, survey), export.understanding.fields
        )
        refused = None  # they were told


def _listed(name: str, lines: Sequence[str]) -> str:
    return f"{name}: " + "\n  ".join(lines)


def _with_columns(
    choices: "Choices", offered: Mapping[str, str], fields: Mapping[str, str]
) -> "Choices":
    """The choices with each offered column, or its present field, as somebody answers."""
    for theirs, ours in offered.items():
        taken = click.confirm(f"Is `{theirs}` the {ours}?", default=True, abort=not fields)
        field = ours if taken else fields.get(theirs, "")
        choices = replace(choices, columns={**choices.columns, theirs: field})
    return choices


def _answered(choices: "Choices", survey: "Survey") -> "Choices":
    """The choices with what somebody answers at the terminal."""
    from slipstream.contracts.spellings import token
    from slipstream.datasets.imports.columns import chosen_type
    from slipstream.datasets.imports.surveys import refused_views

    def ask(text: str, default: str | None) -> str:
        return str(click.prompt(text, default=default, value_proc=chosen))

    def chosen(answer: str) -> str:
        try:
            return chosen_type(answer)
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    for text in refused_views(survey, choices):
        click.echo(text)
    refused = survey.views_of_orders(choices)
    event_type = choices.event_type
    if untyped := survey.without_type or refused.pop("", 0):
        event_type = ask(f"Type of the {untyped:,} rows that name none", survey.suggested_type())
    types = {
        token(name): ask(
            f"{name!r} ({count:,} rows) is a view, click, cart, purchase, rate, like, wishlist,"
            " remove, a name of your own, or skip",
            None,
        )
        for name, count in (*survey.unknown_types.most_common(), *refused.items())
    }
    return replace(choices, event_type=event_type, types={**choices.types, **types})


def refuse_unmatched(files: "Sequence[ExportFile]", choices: "Choices") -> None:
    """End the command where an option names a column that none of the files has."""
    from slipstream.datasets.imports import surveys
    from slipstream.datasets.imports.sources import ImportFileError

    try:
        surveys.refuse_unmatched(files, choices)
    except ImportFileError as error:
        raise click.ClickException(str(error)) from error


def confirm(exports: "Sequence[tuple[Export, Survey]]", url: str) -> None:
    """Ask whether these files shall be sent; end the command if not."""
    sent = {"events": 0, "items": 0}
    for export, survey in exports:
        sent[export.understanding.kind] += survey.sendable
    named = " and ".join(f"{count:,} {kind}" for kind, count in sent.items() if count)
    click.confirm(f"Send {named} to {url}?", default=True, abort=True)


def events_in_lake(
    exports: "Sequence[tuple[Export, Survey]]", running: dict[str, str], data_dir: Path
) -> set[int] | None:
    """The hashes of the ids of events in the lake that are as old as those of the files.

    Ingestion remembers ids for a day and features drops what the lake has, so only the lake tells
    what an import adds.

    Args:
        running: Description of the stack that is sent to; empty where that is not known.

    Returns:
        The hashes, or None where the lake can't be read from here or has too many such events.
    """
    from slipstream.chassis.dependencies import DependencyUnavailableError
    from slipstream.stores.lake import INTERACTIONS, Lake
    from slipstream_cli.peers import features_settings

    times = [at for _, survey in exports for at in (survey.first, survey.last) if at is not None]
    if not times or not (running or _LAKE in os.environ):
        return None
    settings = features_settings(data_dir)
    found = set[int]()
    try:
        lake = Lake(settings.lake, settings.namespace)
        for batch in lake.scan(INTERACTIONS, columns=["event_id"], times=(min(times), max(times))):
            found.update(map(hash, batch["event_id"].to_pylist()))
            if len(found) > MOST_ROWS:
                return None
    except DependencyUnavailableError:
        return None
    return found


def show_outcome(
    report: "ReplayReport", rejected: "RejectedRows", running: Mapping[str, str], data_dir: Path
) -> None:
    """Print the counts of an import, and name what comes next.

    Args:
        running: Description of the stack that it went to; empty where that is not known.
        data_dir: The stack's data folder.
    """
    if report.items or report.items_rejected:
        click.echo(f"items       {report.items:,} accepted, {report.items_rejected:,} rejected")
    if report.events or report.rejected:
        repeats = " (sent before, or the same line of an order)" if report.duplicates else ""
        click.echo(
            f"accepted    {report.accepted:,}\nduplicates  {report.duplicates:,}{repeats}\n"
            f"rejected    {report.rejected:,}"
        )
        for code, count in report.rejected_by_code.most_common():
            click.echo(f"  {code}: {count:,}")
        click.echo(f"{report.events_per_s:,.0f} events/s over {report.seconds:.1f} s")
    if rejected.count:
        click.echo(f"Rejected rows, with line and reason: {rejected.path}")
    for line in _next_steps(report, rejected, running, data_dir):
        click.echo(line)


def _next_steps(
    report: "ReplayReport", rejected: "RejectedRows", running: Mapping[str, str], data_dir: Path
) -> list[str]:
    at = option_of(data_dir) if running else ""
    steps = []
    if report.has_letters:
        steps.append(f"slipstream dead-letters list --since 10m{at}")
    elif rejected.count:
        steps.append(f"repair the rows of {rejected.path}, and import the file again")
    if report.accepted or report.duplicates or report.items:
        steps += _training_steps(running, at)
    return [f"{'Next:' if number == 0 else '     '} {step}" for number, step in enumerate(steps)]


def _training_steps(running: Mapping[str, str], at: str) -> list[str]:
    """What comes next, by what training has done: a first run, one that goes on, or a look."""
    from slipstream.chassis.client import PeerError
    from slipstream_cli.peers import peer_at

    if not running:
        return ["slipstream runs start --follow"]
    training = peer_at("training", running["training"])
    try:
        runs = training.get("/v1/runs", limit=5)["items"]
        if any(run["state"] in ("queued", "running") for run in runs):
            return [f"slipstream runs follow{at}"]
        training.get("/v1/aliases/champion")
    except PeerError:
        return [f"slipstream runs start --follow{at}"]
    return [
        f"slipstream doctor{at}",
        f"curl {running['features']}/v1/status shows how many events features has applied",
    ]
