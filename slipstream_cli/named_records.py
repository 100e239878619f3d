"""The commands of records that monitoring keeps under names, with every revision."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream.contracts.times import format_time
from slipstream_cli.options import existing_file
from slipstream_cli.output import show_json, show_table
from slipstream_cli.peers import (
    every_item,
    json_flag,
    monitoring_options,
    monitoring_peer,
    segment,
)

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer

# The most that monitoring gives at once.
_PAGE_LIMIT = 50
name_argument = click.argument("name")
_if_revision = click.option(
    "--if-revision",
    "revision",
    type=click.IntRange(min=1),
    help="Revision that it must have; refused where another was faster. Default: any.",
)


def show_options(command: Any) -> Any:
    """Add the argument and the options of `RecordCommands.show`."""
    older = click.option(
        "--revision", type=click.IntRange(min=1), help="An older revision. Default: the newest."
    )
    return name_argument(older(json_flag(monitoring_options(command))))


def set_options(command: Any) -> Any:
    """Add the argument and the options of `RecordCommands.set`."""
    file = click.argument("file", type=existing_file)
    name = click.option("--name", help="Name to keep it under. Default: the file's.")
    return file(name(_if_revision(json_flag(monitoring_options(command)))))


def delete_options(command: Any) -> Any:
    """Add the argument and the options of `RecordCommands.delete`."""
    return name_argument(_if_revision(monitoring_options(command)))


@dataclass(frozen=True)
class RecordCommands:
    """What the commands of a kind of records do.

    Attributes:
        path: Path of the records, such as `/v1/placements`.
        content: Field of the content, which `set` takes and `show` shows.
        counts: Time from which a change counts.
    """

    path: str
    content: str
    counts: str = "within a second"

    def list(
        self,
        columns: dict[str, Callable[[Any], str]],
        as_json: bool,
        url: str | None,
        data_dir: Path,
    ) -> None:
        """Show all records; `columns` are drawn from the content, between revision and change."""
        with monitoring_peer(url, data_dir) as peer:
            found = every_item(peer, self.path, _PAGE_LIMIT)
        if as_json:
            show_json(found)
            return
        rows = [
            (
                it["name"],
                str(it["revision"]),
                *(column(it[self.content]) for column in columns.values()),
                format_time(it["changed_at"]),
                it["changed_by"],
            )
            for it in found
        ]
        show_table(("name", "revision", *columns, "changed", "by"), rows)

    def show(
        self, name: str, revision: int | None, as_json: bool, url: str | None, data_dir: Path
    ) -> None:
        """Show the content of a record, as `set` takes it."""
        with monitoring_peer(url, data_dir) as peer:
            found = self._record(peer, name, revision)
        if as_json:
            show_json(found)
            return
        show_json(found[self.content])
        click.echo(f"{_named(found)}, {format_time(found['changed_at'])}", err=True)

    def set(
        self,
        file: Path,
        name: str | None,
        revision: int | None,
        as_json: bool,
        url: str | None,
        data_dir: Path,
    ) -> dict[str, Any]:
        """Put the content of a JSON file, under the file's name where no other is given.

        Returns the answer.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{file} is not JSON: {error}") from error
        with monitoring_peer(url, data_dir) as peer:
            path = self._path_of(name or file.stem)
            put: dict[str, Any] = peer.put(path, content, _if_match(revision))
        if as_json:
            show_json(put)
        else:
            click.echo(f"{_named(put)}. It counts {self.counts}.")
        return put

    def delete(
        self,
        name: str,
        revision: int | None,
        url: str | None,
        data_dir: Path,
        force: bool = False,
    ) -> None:
        """Delete a record; by `force` one in use, too."""
        path = f"{self._path_of(name)}?force=true" if force else self._path_of(name)
        with monitoring_peer(url, data_dir) as peer:
            gone = peer.delete(path, _if_match(revision))
        click.echo(f"{_named(gone)}: deleted. It counts {self.counts}.")

    def _record(self, peer: "Peer", name: str, revision: int | None) -> dict[str, Any]:
        path = self._path_of(name)
        if revision is None:
            newest: dict[str, Any] = peer.get(path)
            return newest
        page = peer.get(f"{path}/revisions", cursor=revision + 1, limit=1)
        found: list[dict[str, Any]] = page["items"]
        if not found or found[0]["revision"] != revision:
            raise click.ClickException(f"{name} has no revision {revision}")
        return found[0]

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{segment(name)}"


def _if_match(revision: int | None) -> dict[str, str]:
    return {"If-Match": f'"{revision}"'} if revision is not None else {}


def _named(record: dict[str, Any]) -> str:
    return f"{record['name']} has revision {record['revision']}, by {record['changed_by']}"
