"""`slipstream write-keys`: make, list, rotate and revoke the keys that may send events.

Ingestion takes changes over within seconds, without a restart.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from slipstream.contracts.times import format_duration, format_time, now_ms
from slipstream_cli.options import Duration, data_dir_option
from slipstream_cli.peers import environment_settings

if TYPE_CHECKING:
    from slipstream.stores.write_keys import StoredKey, WriteKeyStore

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

data_dir = data_dir_option(
    "Data folder of the running stack whose keys these are."
    " Where none runs on it, SLIPSTREAM_REDIS__URL names the store."
)


def _name(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise click.BadParameter("at most 64 letters, digits, -, _ and ., a letter or digit first")
    return value


name_argument = click.argument("name", callback=_name)


@click.group(
    "write-keys", short_help="Make, list, rotate and revoke the keys that may send events."
)
def write_keys() -> None:
    """Make, list, rotate and revoke the keys that may send events.

    Keys in SLIPSTREAM_INGESTION__WRITE_KEYS count besides; they are changed there only. Ingestion
    takes a change over within seconds. Only hashes are stored: a key is shown once, when it is
    made.

    \b
    Example:  slipstream write-keys add shop
              slipstream write-keys rotate shop --grace 24h
    """


@write_keys.command(short_help="Make a key.")
@name_argument
@data_dir
def add(name: str, data_dir: Path) -> None:
    """Make a key. NAME becomes the source of the events that it sends; it may have several keys.

    \b
    Example:  slipstream write-keys add shop
    """
    click.echo(_with_store(data_dir, lambda store: store.add(name)))
    click.echo("Keep it: it can't be shown again. It counts within seconds.", err=True)


@write_keys.command("list", short_help="List all keys.")
@data_dir
def list_keys(data_dir: Path) -> None:
    """List all keys: name, the beginning of the SHA-256, time made, and whether it counts.

    \b
    Example:  slipstream write-keys list
    """
    keys = _with_store(data_dir, lambda store: store.all())
    now = now_ms()
    for key in keys:
        click.echo(
            f"{key.name:<20} {key.digest[:12]}  made {format_time(key.created)}  {_state(key, now)}"
        )
    if not keys:
        click.echo("No key yet: slipstream write-keys add NAME", err=True)


@write_keys.command(short_help="Replace the keys of a name by a new one.")
@name_argument
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Time for which the older keys go on to count, such as 30m, 24h or 7d; 0 ends them now.",
)
@data_dir
def rotate(name: str, grace: int, data_dir: Path) -> None:
    """Make a new key for NAME; its older keys end after the grace period.

    \b
    Example:  slipstream write-keys rotate shop --grace 7d
    """
    click.echo(_with_store(data_dir, lambda store: store.rotate(name, grace)))
    click.echo(
        f"Keep it: it can't be shown again. Older keys of {name} end in"
        f" {format_duration(grace / 1000)}.",
        err=True,
    )


@write_keys.command(short_help="End all keys of a name.")
@name_argument
@data_dir
def revoke(name: str, data_dir: Path) -> None:
    """End all keys of NAME now.

    \b
    Example:  slipstream write-keys revoke shop
    """
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
    """Run `work` on the store of the stack on the data folder, or of the environment's Redis.

    Raises:
        click.ClickException: Redis does not answer.
    """
    from pydantic import SecretStr

    from slipstream.chassis.settings import RedisSettings
    from slipstream.stores.connection import StoreUnavailableError, translated
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
        with translated():
            return asyncio.run(run())
    except StoreUnavailableError as error:
        raise click.ClickException(
            f"{error}; start it with slipstream up, or say where it is:"
            " --data-dir or SLIPSTREAM_REDIS__URL"
        ) from error
