"""`slipstream experiments`: list, show, set and delete experiments, over monitoring's REST API."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from slipstream_cli.named_records import (
    RecordCommands,
    file_name,
    if_revision,
    name_argument,
    older_revision,
)
from slipstream_cli.options import existing_file
from slipstream_cli.peers import json_flag, monitoring_options

COMMANDS = RecordCommands("/v1/experiments", "design")
COLUMNS: dict[str, Callable[[Any], str]] = {
    "placements": lambda design: ", ".join(design["placements"]),
    "state": lambda design: design["state"],
    "kind": lambda design: design["kind"],
    "variants": lambda design: ", ".join(it["name"] for it in design["variants"]),
    "traffic": lambda design: f"{design['traffic']:.0%}",
}


@click.group(short_help="List, show, set and delete experiments.")
def experiments() -> None:
    """List, show, set and delete experiments, over monitoring's REST API.

    An experiment compares variants of a placement's policy (docs/experiments.md). Serving has a
    change within a second. Every revision is kept.

    \b
    Example:  slipstream experiments set calmer.json
              slipstream experiments show calmer
    """


@experiments.command("list", short_help="List all experiments.")
@json_flag
@monitoring_options
def list_experiments(as_json: bool, url: str | None, data_dir: Path) -> None:
    """List all experiments: the placements, the state, the variants, and who changed it last.

    \b
    Example:  slipstream experiments list
    """
    COMMANDS.list(COLUMNS, as_json, url, data_dir)


@experiments.command("show", short_help="Show an experiment's design, as `set` takes it.")
@name_argument
@older_revision
@json_flag
@monitoring_options
def show_experiment(
    name: str, revision: int | None, as_json: bool, url: str | None, data_dir: Path
) -> None:
    """Show the design of NAME as JSON, as `slipstream experiments set` takes it.

    \b
    Example:  slipstream experiments show calmer
              slipstream experiments show calmer --revision 3
    """
    COMMANDS.show(name, revision, as_json, url, data_dir)


@experiments.command("set", short_help="Create an experiment, or replace its design.")
@click.argument("file", type=existing_file)
@file_name
@if_revision
@json_flag
@monitoring_options
def set_experiment(
    file: Path,
    name: str | None,
    if_revision: int | None,
    as_json: bool,
    url: str | None,
    data_dir: Path,
) -> None:
    """Create an experiment, or replace its design by that in FILE, whole.

    The same design again changes nothing. FILE is JSON, for example:

    \b
        {"placements": ["home"], "traffic": 0.5, "variants": [
          {"name": "as-now"}, {"name": "varied", "diversity": 0.4}]}

    \b
    Example:  slipstream experiments set calmer.json
              slipstream experiments set stopped.json --name calmer --if-revision 3
    """
    COMMANDS.set(file, name, if_revision, as_json, url, data_dir)


@experiments.command("delete", short_help="Delete an experiment.")
@name_argument
@if_revision
@monitoring_options
def delete_experiment(name: str, if_revision: int | None, url: str | None, data_dir: Path) -> None:
    """Delete NAME: it assigns nobody any more. Its revisions stay.

    \b
    Example:  slipstream experiments delete calmer
    """
    COMMANDS.delete(name, if_revision, url, data_dir)
