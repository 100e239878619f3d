"""`slipstream placements`: list, show, set and delete placements, over monitoring's REST API."""

from collections.abc import Iterator
from typing import Any

import click

from slipstream_cli.named_records import RecordCommands, delete_options, set_options, show_options
from slipstream_cli.rest_commands import call, json_flag, peer_group

COMMANDS = RecordCommands("/v1/placements", "policy")


@peer_group("monitoring", short_help="List, show, set and delete placements.")
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
def list_placements() -> None:
    """List all placements: the revision, the number of rules, and who changed it last.

    \b
    Example:  slipstream placements list
    """
    columns = {"rules": lambda policy: str(len(policy["rules"]))}
    COMMANDS.list(columns)


@placements.command("show", short_help="Show a placement's policy, as `set` takes it.")
@show_options
def show_placement(**options: Any) -> None:
    """Show the policy of NAME as JSON, as `slipstream placements set` takes it.

    \b
    Example:  slipstream placements show home
              slipstream placements show home --revision 3
    """
    COMMANDS.show(**options)


@placements.command("set", short_help="Create a placement, or replace its policy.")
@set_options
def set_placement(**options: Any) -> None:
    """Create a placement, or replace its whole policy with that in FILE.

    The same policy again changes nothing. FILE is JSON, for example:

    \b
        {"seen": "hide", "rules": [
          {"name": "no tobacco", "action": "exclude", "filter": "categories == 'tobacco'"},
          {"name": "two a brand", "action": "cap", "attribute": "brand", "most": 2}]}

    \b
    Example:  slipstream placements set home.json
              slipstream placements set sale.json --name home --if-revision 3
    """
    put = COMMANDS.set(**options)
    if not call().as_json:
        for line in _matches(put):
            click.echo(line)


def _matches(put: dict[str, Any]) -> Iterator[str]:
    """What each rule of an answer is about now."""
    found = put["matches"]
    if found is None and put["policy"]["rules"]:
        yield "Serving did not answer, so it is not known what the rules match."
    for rule in found["rules"] if found else ():
        matches = rule["matches"]
        words = "what it matches depends on the visitor"
        if matches is not None:
            words = f"matches {matches:,} of {found['items']:,} items"
        yield "; ".join(filter(None, (f"  {rule['rule']}: {words}", rule["remark"])))


@placements.command("delete", short_help="Delete a placement.")
@click.option(
    "--force",
    is_flag=True,
    help="Delete it even where a running experiment or requests of the last hour name it.",
)
@delete_options
def delete_placement(**options: Any) -> None:
    """Delete NAME: requests that name it are refused. Its revisions stay.

    \b
    Example:  slipstream placements delete home
    """
    COMMANDS.delete(**options)
