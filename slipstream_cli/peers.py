"""REST clients of the services for commands: their URLs, and one-line errors when a call fails."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from click.core import ParameterSource

from slipstream_cli.local.plan import EXTERNAL

if TYPE_CHECKING:
    from services.features.settings import FeaturesSettings
    from slipstream.chassis.client import Peer
    from slipstream.chassis.settings import KafkaSettings, ServiceSettings

TIMEOUT_S = 15.0
_LAKE = "SLIPSTREAM_LAKE__URI"
_SERVING_URL, _TOKEN = "SLIPSTREAM_PEERS__SERVING_URL", "SLIPSTREAM_HTTP__API_TOKEN"


def limit_option(entries: str) -> Callable[[Any], Any]:
    """Build the option `--limit`: the most entries of a list that are shown, 20 by default."""
    return click.option(
        "--limit",
        type=click.IntRange(1, 500),
        default=20,
        show_default=True,
        help=f"Most {entries} shown, newest first.",
    )


def url_variable(service: str) -> str:
    """Name the variable of the environment that has a service's URL."""
    return f"SLIPSTREAM_PEERS__{service.upper()}_URL"


def environment_settings() -> "ServiceSettings":
    """Read the settings that all services share from the environment.

    Raises:
        click.ClickException: A setting is wrong; the text names it.
    """
    from pydantic import ValidationError

    from slipstream.chassis.settings import ServiceSettings, wrong_settings

    try:
        return ServiceSettings()
    except ValidationError as error:
        raise click.ClickException(wrong_settings(error)) from error


def stack_on(data_dir: Path) -> dict[str, str]:
    """Return the description of the stack on this folder, or {} where the environment names another
    broker.
    """
    from slipstream_cli.local.data_folder import running_stack

    running = running_stack(data_dir)
    named = os.environ.get(EXTERNAL["broker"])
    return {} if named and named != running.get("kafka") else running


def broker_of(data_dir: Path) -> "tuple[KafkaSettings, str]":
    """Return the broker and the namespace of the stack on this folder, else the environment's."""
    settings, running = environment_settings(), stack_on(data_dir)
    if not running:
        return settings.kafka, settings.namespace
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": running["kafka"]})
    return kafka, running["namespace"]


def features_settings(data_dir: Path) -> "FeaturesSettings":
    """Read the settings of the features service from the environment.

    Servers that it does not name are those of the stack on the data folder.

    Raises:
        click.ClickException: A setting is wrong; the text names it.
    """
    from pydantic import SecretStr, ValidationError

    from services.features.settings import FeaturesSettings
    from slipstream.chassis.settings import wrong_settings
    from slipstream_cli.local.data_folder import running_stack

    try:
        settings = FeaturesSettings()
    except ValidationError as error:
        raise click.ClickException(wrong_settings(error)) from error
    changed: dict[str, object] = {}
    running = running_stack(data_dir)
    if EXTERNAL["valkey"] not in os.environ and "redis" in running:
        changed["redis"] = settings.redis.model_copy(update={"url": SecretStr(running["redis"])})
    if EXTERNAL["broker"] not in os.environ and "kafka" in running:
        servers = {"bootstrap_servers": running["kafka"]}
        changed["kafka"] = settings.kafka.model_copy(update=servers)
    if _LAKE not in os.environ:
        changed["lake"] = settings.lake.model_copy(update={"uri": str(data_dir / "lake")})
    return settings.model_copy(update=changed)


@contextmanager
def peer_of(service: str, url: str | None, data_dir: Path) -> "Iterator[Peer]":
    """Yield a client of a service; a failed call ends the command with one line."""
    from slipstream_cli.local.data_folder import running_stack

    url = (
        url
        or running_stack(data_dir).get(service)
        or getattr(environment_settings().peers, f"{service}_url")
    )
    where = f"--url, --data-dir or {url_variable(service)}"
    with explained_errors(url, f"start it with slipstream up, or say where it is: {where}"):
        yield _peer(service, url)


@contextmanager
def serving_peer(
    url: str | None, training_url: str | None, data_dir: Path, *, reconnects: bool = False
) -> "Iterator[Peer | None]":
    """Yield a client of serving, or None where nothing says where serving is.

    Args:
        training_url: The URL of training that the command was given. With one, the stack on the
            data folder may be another, so its serving is not taken.
        data_dir: The data folder of a running stack.
        reconnects: Whether the client opens a connection for each request.
    """
    from slipstream_cli.local.data_folder import running_stack

    url = (
        url
        or (None if training_url else running_stack(data_dir).get("serving"))
        or os.environ.get(_SERVING_URL)
    )
    with explained_errors(url or "", f"say where it is with --serving-url or {_SERVING_URL}"):
        yield _peer("serving", url, reconnects) if url else None


@contextmanager
def explained_errors(url: str, hint: str) -> Iterator[None]:
    """End the command with one line when a call to a service fails.

    Args:
        hint: Advice that is added when the service can't be reached.
    """
    from slipstream.chassis.client import PeerError

    try:
        yield
    except PeerError as error:
        if error.status == 401:
            raise click.ClickException(f"{url} wants a token: set {_TOKEN}") from error
        raise click.ClickException(error.detail if error.status else f"{error}; {hint}") from error


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--url` and `--write-key`, which say where events are sent."""
    key = click.option(
        "--write-key", help="Write key to send with. Default: that of the stack, or dev."
    )
    url = click.option(
        "--url",
        help="URL of ingestion. Default: that of the stack running on the data folder,"
        f" or of {url_variable('ingestion')}, or port 8001 of this machine.",
    )
    return url(key(command))


def target_url(
    service: str, url: str | None, data_dir: Path, *, otherwise: str = "--url"
) -> tuple[str, dict[str, str]]:
    """Return the URL of a service that is to be written to, and the description of its stack.

    The description is empty where the stack is not the one on the data folder.

    Args:
        otherwise: What else says where the service is, for the error.

    Raises:
        click.ClickException: No stack runs on the data folder, and it was named or another runs.
            The default ports may belong to an unrelated stack.
    """
    from slipstream_cli.local.data_folder import running_stack

    running = running_stack(data_dir)
    if url:
        return url, running if url.rstrip("/") == running.get(service) else {}
    if running:
        return running[service], running
    peers = environment_settings().peers
    if f"{service}_url" not in peers.model_fields_set:
        _refuse_absent_stack(data_dir, otherwise)
    return str(getattr(peers, f"{service}_url")), {}


def _refuse_absent_stack(data_dir: Path, otherwise: str) -> None:
    from slipstream_cli.local.data_folder import running_stacks

    context = click.get_current_context(silent=True)
    source = context and context.get_parameter_source("data_dir")
    here = data_dir.absolute()
    others = sorted(running_stacks(), key=lambda it: -len(os.path.commonpath([here, it])))
    if others:
        named = ", ".join(map(str, others))
        raise click.ClickException(
            f"no stack runs on {data_dir}, but one on {named}: say --data-dir {others[0]},"
            f" or where else it is with {otherwise}"
        )
    if source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        raise click.ClickException(
            f"no stack runs on {data_dir}: start it with slipstream up --data-dir {data_dir},"
            f" or say where it is with {otherwise}"
        )


def peer_at(name: str, url: str) -> "Peer":
    """Return a client of the service at this URL, with the environment's token."""
    return _peer(name, url)


def every_item(peer: "Peer", path: str, limit: int) -> list[dict[str, Any]]:
    """Return all items of a list that comes in pages of at most `limit` items."""
    items, asked = list[dict[str, Any]](), {"limit": limit}
    while True:
        page = peer.get(path, **asked)
        items += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            return items
        asked["cursor"] = cursor


def asleep(monitoring: "Peer") -> set[str]:
    """Return the services that are scaled to zero, by monitoring; none where it does not answer.

    Raises:
        PeerError: Monitoring wants another token.
    """
    from slipstream.chassis.client import PeerError

    try:
        services = monitoring.get("/v1/services")["items"]
    except PeerError as error:
        if error.status == 401:
            raise
        return set()
    return {each["name"] for each in services if each["state"] == "asleep"}


def segment(text: str) -> str:
    """Quote an id for use as one segment of a URL's path."""
    return quote(text, safe="")


def _peer(name: str, url: str, reconnects: bool = False) -> "Peer":
    from slipstream.chassis.client import Peer

    return Peer(
        name,
        url,
        timeout_s=TIMEOUT_S,
        token=environment_settings().http.api_token.get_secret_value(),
        reconnects=reconnects,
    )
