"""How commands show things: times, spans, tables, JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as what is in them."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """A name and what there is to say of it, a line each; what is empty is left out."""
    width = max((len(name) for name, value in facts if value), default=0)
    for name, value in facts:
        if value:
            click.echo(f"{name.ljust(width)}  {value}")


def figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """What was measured of a model over all queries, as facts; names with a slash are of a part of
    them, or of another model.
    """
    return [(name, f"{value:.4f}") for name, value in sorted(metrics.items()) if "/" not in name]


def show_json(value: Any) -> None:
    """For programs that read what a command prints."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
