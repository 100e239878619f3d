"""Files that several commands read, and the JSON that they write."""

import json
from pathlib import Path
from typing import Any, Final

import click

existing_file: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
json_out: Final = click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write JSON here."
)


def write_json(path: Path | None, value: Any) -> None:
    """Where `json_out` named a file."""
    if path:
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
