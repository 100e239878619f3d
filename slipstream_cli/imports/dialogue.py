"""The preview of an import, and the questions that it leaves open."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from slipstream.datasets.imports.sources import ExportFile
    from slipstream.datasets.imports.surveys import Export, Refused, Survey
    from slipstream.datasets.imports.understanding import Choices, Kind
    from slipstream_cli.local.terminal import Terminal

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
        file: The file.
        choices: What the options say.
        kind: Whether it has events or items; None where its columns shall tell.
        terminal: Shows the figures, and progress.
        refused: Called with each row that can't be sent; None for a count alone.
        asking: Whether somebody at a terminal is asked about what is open.

    Raises:
        click.ClickException: The file can't be read, or a question is open and nobody can be asked.
    """
    from slipstream.datasets.imports.sources import ImportFileError
    from slipstream.datasets.imports.surveys import (
        describe,
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
        choices = _answered(choices, survey)
        refused = None  # they were told


def _listed(name: str, lines: Sequence[str]) -> str:
    return f"{name}: " + "\n  ".join(lines)


def _answered(choices: "Choices", survey: "Survey") -> "Choices":
    """The choices with what somebody answers at the terminal."""
    from slipstream.contracts.spellings import token
    from slipstream.datasets.imports.columns import chosen_type

    def ask(text: str, default: str | None) -> str:
        return str(click.prompt(text, default=default, value_proc=chosen))

    def chosen(answer: str) -> str:
        try:
            return chosen_type(answer)
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    event_type = choices.event_type
    if survey.without_type:
        event_type = ask(
            f"Type of the {survey.without_type:,} rows that name none", survey.suggested_type
        )
    types = {
        token(name): ask(
            f"{name!r} ({count:,} rows) is a view, click, cart, purchase, rate, like, wishlist,"
            " remove, a name of your own, or skip",
            None,
        )
        for name, count in survey.unknown_types.most_common()
    }
    return replace(choices, event_type=event_type, types={**choices.types, **types})


def refuse_unmatched(exports: "Sequence[tuple[Export, Survey]]", choices: "Choices") -> None:
    """End the command where an option names a column that none of the files has."""
    from slipstream.datasets.imports import surveys
    from slipstream.datasets.imports.sources import ImportFileError

    try:
        surveys.refuse_unmatched([export for export, _ in exports], choices)
    except ImportFileError as error:
        raise click.ClickException(str(error)) from error


def confirm(exports: "Sequence[tuple[Export, Survey]]", url: str) -> None:
    """Ask whether these files shall be sent; end the command if not."""
    sent = {"events": 0, "items": 0}
    for export, survey in exports:
        sent[export.understanding.kind] += survey.sendable
    named = " and ".join(f"{count:,} {kind}" for kind, count in sent.items() if count)
    click.confirm(f"Send {named} to {url}?", default=True, abort=True)
