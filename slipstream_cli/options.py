"""Options that several commands take, and the JSON files that they write."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from slipstream_cli.local.plan import DATA_DIR, DEFAULT_DATA_DIR, Plan, make_plan
from slipstream_cli.local.processes import StartError

existing_file: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
json_out: Final = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write JSON here.",
)
demo_data_dir: Final = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get(DATA_DIR) or DEFAULT_DATA_DIR) / "demo",
    show_default=f"{DEFAULT_DATA_DIR}/demo, or demo in {DATA_DIR}",
    help="Where the demo keeps everything, apart from your own data.",
)
ports: Final = click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=PORT",
    help="Fix a port, as in serving=9004 or broker=19092. A default port that is taken gives way to the next free one.",
)
any_ports: Final = click.option("--any-ports", is_flag=True, help="Take whatever ports are free.")


def data_dir_option(contents: str) -> Callable[[Any], Any]:
    """Build the option `--data-dir`: a folder, `.slipstream` where neither it nor the environment
    names one.

    `contents` says in the help what the folder holds.
    """
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar=DATA_DIR,
        show_envvar=True,
        show_default=True,
        help=contents,
    )


data_dir: Final = data_dir_option("Where everything that outlives the processes is kept.")


def write_json(path: Path | None, value: Any) -> None:
    """Write a value as JSON, where `json_out` named a file."""
    if path:
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def plan_of(
    directory: Path,
    ports: tuple[str, ...],
    any_ports: bool,
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Plan the local stack that the options of a command describe.

    Args:
        directory: The data folder.
        ports: Fixed ports, as NAME=PORT.
        any_ports: Take free ports instead of the default ones.
        defaults: Settings that hold where the environment has none.

    Raises:
        click.BadParameter, click.ClickException: A port is not one, or can't be had.
    """
    try:
        fixed = {name: int(port) for name, _, port in (entry.partition("=") for entry in ports)}
    except ValueError as error:
        raise click.BadParameter(
            f"{' '.join(ports)!r}: expected NAME=PORT", param_hint="--port"
        ) from error
    try:
        return make_plan(directory, {**defaults, **os.environ}, fixed, any_ports=any_ports)
    except StartError as error:
        raise click.ClickException(str(error)) from error
