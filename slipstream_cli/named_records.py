"""The commands of records that monitoring keeps under names, with every revision."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from slipstream.contracts.times import format_time
from slipstream_cli.options import existing_file
from slipstream_cli.output import show_json
from slipstream_cli.peers import segment
from slipstream_cli.rest_commands import Columns, call, json_flag, show_list

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer

_BEFORE: Final[Columns] = {
    "name": itemgetter("name"),
    "revision": lambda record: str(record["revision"]),
}
_AFTER: Final[Columns] = {
    "changed": lambda record: format_time(record["changed_at"]),
    "by": itemgetter("changed_by"),
}
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
    return name_argument(older(json_flag(command)))


def set_options(command: Any) -> Any:
    """Add the argument and the options of `RecordCommands.set`."""
    file = click.argument("file", type=existing_file)
    name = click.option("--name", help="Name to keep it under. Default: the file's.")
    return file(name(_if_revision(json_flag(command))))


def delete_options(command: Any) -> Any:
    """Add the argument and the options of `RecordCommands.delete`."""
    return name_argument(_if_revision(command))


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

    def list(self, columns: Columns) -> None:
        """Show all records; `columns` are drawn from the content, between revision and change."""
        drawn = {name: partial(self._drawn, column) for name, column in columns.items()}
        show_list(self.path, {**_BEFORE, **drawn, **_AFTER})

    def _drawn(self, column: Callable[[Any], str], record: dict[str, Any]) -> str:
        return column(record[self.content])

    def show(self, name: str, revision: int | None) -> None:
        """Show the content of a record, as `set` takes it."""
        with call().peer() as peer:
            found = self._record(peer, name, revision)
        if call().shows_json(found):
            return
        show_json(found[self.content])
        click.echo(f"{_named(found)}, {format_time(found['changed_at'])}", err=True)

    def set(
        self,
        file: Path,
        name: str | None,
        revision: int | None,
    ) -> dict[str, Any]:
        """Put the content of a JSON file, under the file's name where no other is given.

        Returns the answer.
        """
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{file} is not JSON: {error}") from error
        with call().peer() as peer:
            path = self._path_of(name or file.stem)
            put: dict[str, Any] = peer.put(path, content, _if_match(revision))
        if not call().shows_json(put):
            click.echo(f"{_named(put)}. It counts {self.counts}.")
        return put

    def delete(
        self,
        name: str,
        revision: int | None,
        force: bool = False,
    ) -> None:
        """Delete a record; by `force` one in use, too."""
        path = f"{self._path_of(name)}?force=true" if force else self._path_of(name)
        with call().peer() as peer:
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
