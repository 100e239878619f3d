"""Commands that call one service: the options that all of them take, and how they show an answer.

The options are kept in click's context, so that no function passes them on.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipstream_cli.local.plan import DEFAULT_DATA_DIR
from slipstream_cli.options import data_dir_option, option_of
from slipstream_cli.output import show_json, show_table
from slipstream_cli.peers import every_item, peer_of, url_variable

if TYPE_CHECKING:
    from slipstream.chassis.client import Peer


# Names of a table's columns, each with the function that draws its cell from an item.
Columns = Mapping[str, Callable[[Any], str]]


@dataclass
class Call:
    """What the options of a command say: where its service is, and who reads the answer."""

    service: str = ""
    url: str | None = None
    data_dir: Path = DEFAULT_DATA_DIR
    as_json: bool = False

    @contextmanager
    def peer(self) -> "Iterator[Peer]":
        """Yield a client of the service; a failed call ends the command with one line."""
        with peer_of(self.service, self.url, self.data_dir) as peer:
            yield peer

    @property
    def option(self) -> str:
        """The option that names the data folder, as a command is shown; "" for the default."""
        return option_of(self.data_dir)

    def shows_json(self, answer: Any) -> bool:
        """Print an answer where `--json` was given, and return whether it was."""
        if self.as_json:
            show_json(answer)
        return self.as_json


def call() -> Call:
    """Return what the options of the running command say."""
    return click.get_current_context().ensure_object(Call)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    setattr(context.ensure_object(Call), str(parameter.name), value)


class PeerCommand(click.Command):
    """A command of one service, with the options `--url` and `--data-dir`."""

    def __init__(self, *args: Any, service: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service = service
        url = click.option(
            "--url",
            help=f"URL of {service}. Default: that of the stack running on the data folder,"
            f" or of {url_variable(service)}.",
            expose_value=False,
            callback=_keep,
        )
        contents = f"Data folder of the running stack that {service} belongs to."
        url(self)
        data_dir_option(contents, expose_value=False, callback=_keep)(self)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, which calls its service."""
        ctx.ensure_object(Call).service = self._service
        return super().invoke(ctx)


class PeerGroup(click.Group):
    """A group of commands of one service."""

    command_class = PeerCommand

    def __init__(self, *args: Any, service: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service = service

    def command(  # type: ignore[override]
        self, name: str | None = None, **attributes: Any
    ) -> Callable[[Callable[..., Any]], click.Command]:
        """Make a command of the group's service."""
        return super().command(name, service=self._service, **attributes)


def peer_group(
    service: str, name: str | None = None, *, short_help: str
) -> Callable[[Callable[..., Any]], PeerGroup]:
    """Make a group of commands of one service."""
    return click.group(name, cls=PeerGroup, service=service, short_help=short_help)


json_flag = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the service's answer as JSON instead of text.",
    expose_value=False,
    callback=_keep,
)


# The most that every list of a service gives at once.
_PAGE_LIMIT = 50


def show_list(path: str, columns: Columns, newest: int | None = None) -> list[dict[str, Any]]:
    """Show a list of the service as a table with these columns, and return its items.

    `newest` is the most items that are shown; None shows all.
    """
    with call().peer() as peer:
        items: list[dict[str, Any]] = (
            every_item(peer, path, _PAGE_LIMIT)
            if newest is None
            else peer.get(path, limit=newest)["items"]
        )
    if not call().shows_json(items):
        rows = [[column(item) for column in columns.values()] for item in items]
        show_table([*columns], rows)
    return items
