"""`slipstream keys`: make, list, rotate and revoke access keys, over monitoring's REST API."""

from operator import itemgetter
from typing import Any, Final

import click

from slipstream.contracts.access import BROWSER_SCOPES, Scope
from slipstream.contracts.times import format_duration, format_time, now_ms
from slipstream_cli.options import Duration
from slipstream_cli.peers import segment
from slipstream_cli.rest_commands import Columns, call, json_flag, peer_group, show_list

# Characters of a key that monitoring makes.
_SAFE_KEY_LENGTH = 32
name_argument = click.argument("name")


def _state(entry: dict[str, Any]) -> str:
    if entry["revoked_at"] is not None:
        return f"revoked {format_time(entry['revoked_at'])}"
    if entry["expires_at"] is not None:
        verb = "ends" if entry["expires_at"] > now_ms() else "ended"
        return f"{verb} {format_time(entry['expires_at'])}"
    return "counts"


COLUMNS: Final[Columns] = {
    "name": itemgetter("name"),
    "digest": itemgetter("id"),
    "scopes": lambda key: " ".join([*key["scopes"], *["(browser)"] * key["browser"]]),
    "made": lambda key: format_time(key["created_at"]),
    "last used": lambda key: format_time(key["last_used_at"]) if key["last_used_at"] else "never",
    "state": _state,
}


@peer_group("monitoring", short_help="Make, list, rotate and revoke access keys; sign for pages.")
def keys() -> None:
    """Make, list, rotate and revoke access keys, over monitoring's REST API; sign for pages.

    A key grants scopes (docs/security.md): the first five are for ingestion, the others for the
    services' APIs. Every service takes a change over within a second. Only digests are kept: a key
    is shown once, when it is made. Keys in the services' settings count besides.

    \b
    Example:  slipstream keys create shop --scope events --scope identify --scope catalogue
              slipstream keys create page --browser --origin https://shop.example
              slipstream keys rotate shop --grace 24h
    """


@keys.command(short_help="Make a key.")
@name_argument
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="Right that the key grants; repeatable. Default: with --browser events, identify and"
    " recommend.",
)
@click.option("--browser", is_flag=True, help="Key for web pages, where everyone can see it.")
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="Origin of pages that may use a browser key, as in https://shop.example; repeatable."
    " Default: any.",
)
@click.option(
    "--expires-in", type=Duration(), help="Time until the key ends, such as 90d. Default: never."
)
@click.option(
    "--digest", help="SHA-256 in hex of a key that exists already. Default: a key is made."
)
def create(
    name: str,
    scopes: tuple[str, ...],
    browser: bool,
    origins: tuple[str, ...],
    expires_in: int | None,
    digest: str | None,
) -> None:
    """Make a key. NAME becomes the source of the events that it sends, and stands in the audit.

    \b
    Example:  slipstream keys create shop --scope events --scope catalogue
    """
    if not scopes and not browser:
        raise click.UsageError("Say with --scope what the key grants.")
    if expires_in == 0:
        raise click.UsageError(
            "A key of --expires-in 0 would never count: give a longer time, or leave it out for a"
            " key that does not end."
        )
    body = {
        "name": name,
        "scopes": list(scopes) or sorted(BROWSER_SCOPES),
        "browser": browser,
        "origins": list(origins),
        "expires_at": now_ms() + expires_in if expires_in is not None else None,
        "digest": digest,
    }
    with call().peer() as peer:
        _show_key(peer.post("/v1/keys", body)["key"], "It counts within a second.")


@keys.command("list", short_help="List all keys.")
@json_flag
def list_keys() -> None:
    """List all keys: the beginning of the digest, scopes, last use, and whether it counts.

    \b
    Example:  slipstream keys list
    """
    show_list("/v1/keys", COLUMNS)


@keys.command(short_help="Replace the keys of a name by a new one.")
@name_argument
@click.option(
    "--grace",
    type=Duration(),
    default="24h",
    show_default=True,
    help="Time for which older keys stay valid, such as 30m, 24h or 7d; 0 ends them now.",
)
def rotate(name: str, grace: int) -> None:
    """Make a new key for NAME that grants the same; its older keys end after the grace period.

    \b
    Example:  slipstream keys rotate shop --grace 7d
    """
    with call().peer() as peer:
        made = peer.post(f"/v1/keys/{segment(name)}:rotate", {"grace_ms": grace})
    _show_key(made["key"], f"Older keys of {name} end in {format_duration(grace / 1000)}.")


@keys.command(short_help="End all keys of a name.")
@name_argument
def revoke(name: str) -> None:
    """End all keys of NAME now.

    \b
    Example:  slipstream keys revoke shop
    """
    with call().peer() as peer:
        count = peer.post(f"/v1/keys/{segment(name)}:revoke", None)["revoked"]
    click.echo(f"{count} key{'s' if count > 1 else ''} of {name} revoked, refused within a second.")


@click.command("sign-user", short_help="Make a token that proves a page's user.")
@click.argument("user_id")
@click.option(
    "--anonymous-id",
    required=True,
    help="Anonymous id of the page's visitor: slipstream.anonymousId() there.",
)
@click.option(
    "--key",
    envvar="SLIPSTREAM_WRITE_KEY",
    required=True,
    show_envvar=True,
    help="Write key of a server, with the scope identify. Set the variable to keep the key out of"
    " the list of processes.",
)
@click.option(
    "--for",
    "duration",
    type=Duration(),
    default="10m",
    show_default=True,
    help="Validity of the token, 10m at most.",
)
def sign_user(user_id: str, anonymous_id: str, key: str, duration: int) -> None:
    """Make a token by which a page proves that its visitor is USER_ID (docs/tracker.md).

    It is made here, without a service, as the shop's server does it for its page. Only a key that
    rotate or create printed, or that stands in ingestion's settings, signs tokens that count.

    \b
    Example:  slipstream keys sign-user ada --anonymous-id 7c9e6679 --key KEY
    """
    from slipstream.chassis.access.page_tokens import LONGEST_S, signed_user

    if not 1_000 <= duration <= LONGEST_S * 1_000:
        raise click.UsageError("A token holds for at least a second and at most 10m: change --for.")
    if len(key) < _SAFE_KEY_LENGTH:
        click.echo(
            f"Warning: a key of fewer than {_SAFE_KEY_LENGTH} characters can be guessed from its"
            " tokens, which pages show. Make one: slipstream keys create.",
            err=True,
        )
    click.echo(signed_user(key, user_id, anonymous_id, duration // 1_000))


keys.add_command(sign_user)


def _show_key(key: str | None, then: str) -> None:
    if key is None:
        click.echo(f"The key of this digest is kept. {then}", err=True)
        return
    click.echo(key)
    click.echo(f"Keep it: it can't be shown again. {then}", err=True)
