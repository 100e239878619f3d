"""`slipstream write-keys`: make, list, rotate and revoke the keys that may send events, without a
restart of ingestion.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from slipstream.contracts.times import format_time
from slipstream_cli.options import data_dir_option
from slipstream_cli.peers import environment_settings

if TYPE_CHECKING:
    from slipstream.stores.write_keys import StoredKey, WriteKeyStore

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

data_dir = data_dir_option(
    "The folder of the stack whose keys these are, where one runs; else SLIPSTREAM_REDIS__URL counts."
)


class _Duration(click.ParamType[timedelta]):
    """A time with its unit: 90s, 30m, 24h, 7d, or 0."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+)([smhd])", str(value)) or re.fullmatch(r"(0)()", str(value))
        if not found:
            self.fail(f"{value!r} is no time such as 90s, 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS.get(found[2], "seconds"): int(found[1])})


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("at most 64 letters, digits, -, _ and ., a letter or digit first")
    return value


name_argument = click.argument("name", callback=_name)


@click.group(
    "write-keys", short_help="Make, list, rotate and revoke the keys that may send events."
)
def write_keys() -> None:
    """The keys that may send events, beside those in SLIPSTREAM_INGESTION__WRITE_KEYS.

    Ingestion takes a change over within seconds. Only hashes are kept: a key is shown once, when it
    is made.

    \b
    Example:  slipstream write-keys add shop
    """


@write_keys.command()
@name_argument
@data_dir
def add(name: str, data_dir: Path) -> None:
    """Make a key; NAME becomes the source of the events that come in with it. A name may have
    several keys.
    """
    click.echo(_with_store(data_dir, lambda store: store.add(name)))
    click.echo("Keep it: it can't be shown again. It counts within seconds.", err=True)


@write_keys.command("list")
@data_dir
def list_keys(data_dir: Path) -> None:
    """Show every key that was made: its name, the beginning of its SHA-256, when it was made, and
    whether it counts.
    """
    keys = _with_store(data_dir, lambda store: store.all())
    now = int(datetime.now(UTC).timestamp() * 1000)
    for key in keys:
        click.echo(
            f"{key.name:<20} {key.digest[:12]}  made {format_time(key.created)}  {_state(key, now)}"
        )
    if not keys:
        click.echo("No key was made yet: slipstream write-keys add NAME", err=True)


@write_keys.command()
@name_argument
@click.option(
    "--grace",
    type=_Duration(),
    default="24h",
    show_default=True,
    help="How long the older keys go on to count.",
)
@data_dir
def rotate(name: str, grace: timedelta, data_dir: Path) -> None:
    """Make a new key for NAME; those that it has end after the grace period. A key in ingestion's
    settings ends there only.
    """
    click.echo(
        _with_store(data_dir, lambda store: store.rotate(name, int(grace.total_seconds() * 1000)))
    )
    click.echo(f"Keep it: it can't be shown again. Older keys of {name} end in {grace}.", err=True)


@write_keys.command()
@name_argument
@data_dir
def revoke(name: str, data_dir: Path) -> None:
    """End all keys of NAME now. A key in ingestion's settings ends there only."""
    count = _with_store(data_dir, lambda store: store.revoke(name))
    if not count:
        raise click.ClickException(f"{name} has no key that counts")
    click.echo(
        f"{count} key{'s' if count > 1 else ''} of {name} revoked; within seconds they are refused."
    )


def _state(key: "StoredKey", now: int) -> str:
    if key.revoked is not None:
        return f"revoked {format_time(key.revoked)}"
    if key.expires is not None:
        return f"{'ends' if key.valid(now) else 'ended'} {format_time(key.expires)}"
    return "counts"


def _with_store(data_dir: Path, work: "Callable[[WriteKeyStore], Awaitable[T]]") -> T:
    from pydantic import SecretStr

    from slipstream.chassis.settings import RedisSettings
    from slipstream.stores.write_keys import WriteKeyStore
    from slipstream_cli.local.data_folder import running_stack

    settings = environment_settings()
    running = running_stack(data_dir)
    redis, namespace = settings.redis, settings.namespace
    if "redis" in running:
        redis, namespace = RedisSettings(url=SecretStr(running["redis"])), running["namespace"]

    async def run() -> T:
        store = WriteKeyStore(redis, namespace)
        try:
            return await work(store)
        finally:
            await store.aclose()

    try:
        return asyncio.run(run())
    except OSError as error:
        raise click.ClickException(f"Redis does not answer: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("redis"):
            raise click.ClickException(f"Redis does not answer: {error}") from error
        raise
