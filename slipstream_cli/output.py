"""Printed forms of a command's results: tables, facts and JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names with their values, a line each; empty values are left out."""
    width = max((len(name) for name, value in facts if value), default=0)
    for name, value in facts:
        if value:
            click.echo(f"{name.ljust(width)}  {value}")


def figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    """Format a model's metrics over all queries as facts.

    Names with a slash are left out: they belong to a cohort, or to another model.
    """
    return [(name, f"{value:.4f}") for name, value in sorted(metrics.items()) if "/" not in name]


def show_json(value: Any) -> None:
    """Print a value as indented JSON, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
