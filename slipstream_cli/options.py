"""Options and option types that several commands share, and the JSON files that they write."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click

from slipstream.contracts.times import DAY_MS, HOUR_MS, now_ms, parse_iso
from slipstream_cli.local.plan import DATA_DIR, DEFAULT_DATA_DIR, Plan, make_plan
from slipstream_cli.local.processes import StartError

_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": HOUR_MS, "d": DAY_MS}


class Duration(click.ParamType[int]):
    """A time span with its unit, such as 90s, 30m, 24h or 7d, or a bare 0; in milliseconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        if value == "0":
            return 0
        span_ms = _span_ms(str(value))
        if span_ms is None:
            self.fail(f"{value!r} is not a time span such as 90s, 30m, 24h or 7d", param, ctx)
        return span_ms


class AgeOrTime(click.ParamType[int]):
    """A moment as an age (90m, 2h, 3d) or an ISO 8601 time; in milliseconds since the epoch."""

    name = "age|time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        if (age_ms := _span_ms(str(value))) is not None:
            return now_ms() - age_ms
        try:
            return parse_iso(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is neither an age such as 90m, 2h or 3d"
                " nor an ISO 8601 time such as 2026-11-24T08:00",
                param,
                ctx,
            )


existing_file: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
json_out: Final = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="File that the results are also written to, as JSON. Default: none.",
)
each_line: Final = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Write a line for each table and file, off a terminal, too. Default: a summary.",
)
demo_data_dir: Final = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path(os.environ.get(DATA_DIR) or DEFAULT_DATA_DIR) / "demo",
    show_default=f"{DEFAULT_DATA_DIR}/demo, or demo in {DATA_DIR}",
    help="Folder of the demo's data, apart from your own.",
)
ports: Final = click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="NAME=PORT",
    help="Port of one service or server, as in serving=9004 or broker=19092; repeatable."
    " Default: its usual port, or the next free one.",
)
any_ports: Final = click.option(
    "--any-ports", is_flag=True, help="Take any free ports instead of the usual ones."
)


def data_dir_option(contents: str, **more: Any) -> Callable[[Any], Any]:
    """Build the option `--data-dir`: a folder, `.slipstream` where neither it nor the environment
    names one.

    `contents` says in the help what the folder holds; `more` goes to click.
    """
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar=DATA_DIR,
        show_envvar=True,
        show_default=True,
        help=contents,
        **more,
    )


data_dir: Final = data_dir_option("Folder of the stack's data: lake, models, databases and logs.")


def option_of(directory: Path) -> str:
    """Return the option that names a data folder, as a command is shown; "" for the default."""
    return "" if directory == DEFAULT_DATA_DIR else f" --data-dir {directory}"


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


def _span_ms(text: str) -> int | None:
    parts = re.fullmatch(r"(\d+)([smhd])", text)
    return int(parts[1]) * _UNITS_MS[parts[2]] if parts else None
