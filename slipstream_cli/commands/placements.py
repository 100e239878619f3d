"""`slipstream placements`: list, show, set and delete placements, over monitoring's REST API."""

import json
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
if_revision = click.option(
    "--if-revision",
    type=click.IntRange(min=1),
    help="Revision that the placement must have; refused where another was faster. Default: any.",
)


@click.group(short_help="List, show, set and delete placements.")
def placements() -> None:
    """List, show, set and delete placements, over monitoring's REST API.

    A placement is a place on a page, with the rules of its slates (docs/placements.md). Serving has
    a change within a second. Every revision is kept.

    \b
    Example:  slipstream placements set home.json
              slipstream placements show home
              slipstream placements show home --revision 3
    """


@placements.command("list", short_help="List all placements.")
@json_flag
@monitoring_options
def list_placements(as_json: bool, url: str | None, data_dir: Path) -> None:
    """List all placements: the revision, the number of rules, and who changed it last.

    \b
    Example:  slipstream placements list
    """
    with monitoring_peer(url, data_dir) as peer:
        found = every_item(peer, "/v1/placements", _PAGE_LIMIT)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            it["name"],
            str(it["revision"]),
            str(len(it["policy"]["rules"])),
            format_time(it["changed_at"]),
            it["changed_by"],
        )
        for it in found
    ]
    show_table(("name", "revision", "rules", "changed", "by"), rows)


@placements.command("show", short_help="Show a placement's policy, as `set` takes it.")
@name_argument
@click.option(
    "--revision", type=click.IntRange(min=1), help="An older revision. Default: the newest."
)
@json_flag
@monitoring_options
def show_placement(
    name: str, revision: int | None, as_json: bool, url: str | None, data_dir: Path
) -> None:
    """Show the policy of NAME as JSON, as `slipstream placements set` takes it.

    \b
    Example:  slipstream placements show home
              slipstream placements show home --revision 3
    """
    with monitoring_peer(url, data_dir) as peer:
        found = _placement(peer, name, revision)
    if as_json:
        show_json(found)
        return
    show_json(found["policy"])
    click.echo(f"{_named(found)}, {format_time(found['changed_at'])}", err=True)


@placements.command("set", short_help="Create a placement, or replace its policy.")
@click.argument("file", type=existing_file)
@click.option("--name", help="Name of the placement. Default: the file's, as home of home.json.")
@if_revision
@json_flag
@monitoring_options
def set_placement(
    file: Path,
    name: str | None,
    if_revision: int | None,
    as_json: bool,
    url: str | None,
    data_dir: Path,
) -> None:
    """Create a placement, or replace its policy by that in FILE, whole.

    The same policy again changes nothing. FILE is JSON, for example:

    \b
        {"seen": "hide", "rules": [
          {"name": "no tobacco", "action": "exclude", "filter": "category == 'tobacco'"},
          {"name": "two a brand", "action": "cap", "attribute": "brand", "most": 2}]}

    \b
    Example:  slipstream placements set home.json
              slipstream placements set sale.json --name home --if-revision 3
    """
    try:
        policy = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{file} is no JSON: {error}") from error
    path = f"/v1/placements/{segment(name or file.stem)}"
    with monitoring_peer(url, data_dir) as peer:
        put = peer.put(path, policy, _if_match(if_revision))
    if as_json:
        show_json(put)
    else:
        click.echo(f"{_named(put)}. It counts within a second.")


@placements.command("delete", short_help="Delete a placement.")
@name_argument
@if_revision
@monitoring_options
def delete_placement(name: str, if_revision: int | None, url: str | None, data_dir: Path) -> None:
    """Delete NAME: its slates are made without rules. Its revisions stay.

    \b
    Example:  slipstream placements delete home
    """
    with monitoring_peer(url, data_dir) as peer:
        gone = peer.delete(f"/v1/placements/{segment(name)}", _if_match(if_revision))
    click.echo(f"{_named(gone)}: deleted. It counts within a second.")


def _placement(peer: "Peer", name: str, revision: int | None) -> dict[str, Any]:
    path = f"/v1/placements/{segment(name)}"
    if revision is None:
        newest: dict[str, Any] = peer.get(path)
        return newest
    found: list[dict[str, Any]] = peer.get(f"{path}/revisions", cursor=revision + 1, limit=1)[
        "items"
    ]
    if not found or found[0]["revision"] != revision:
        raise click.ClickException(f"{name} has no revision {revision}")
    return found[0]


def _if_match(revision: int | None) -> dict[str, str]:
    return {"If-Match": f'"{revision}"'} if revision is not None else {}


def _named(placement: dict[str, Any]) -> str:
    return f"{placement['name']} has revision {placement['revision']}, by {placement['changed_by']}"
