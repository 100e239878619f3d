"""`--data-dir`, which several commands take."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from services.standalone.plan import DATA_DIR, DEFAULT_DATA_DIR


def data_dir_option(what: str) -> Callable[[Any], Any]:
    """The option: a folder, `.slipstream` where neither it nor the environment names one. `what` says what is in it."""
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar=DATA_DIR,
        show_envvar=True,
        show_default=True,
        help=what,
    )
