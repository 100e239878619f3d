"""Connection to Redis: the client, its errors, and the scripts that every write goes through."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, NamedTuple, TypeVar

from redis.exceptions import NoPermissionError, RedisClusterException, RedisError

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import RedisSettings
from slipstream.stores import layout
from slipstream.stores.cluster_clients import BlockingCluster, Command, Settlement
from slipstream.stores.layout import Keys
from slipstream.stores.redis_clients import blocking_client

_T = TypeVar("_T")
# Script of the admission store, which has a connection and a key space of its own.
_OF_ADMISSION: Final = "admit"
# What clients raise where Redis, or a node of a cluster, does not do what was asked.
FAILURES: Final = (RedisError, RedisClusterException, OSError)


class StoreUnavailableError(DependencyUnavailableError):
    """Redis is unavailable, still loading, out of memory or read-only.

    It is not known whether anything was written; the call can be repeated. Reads also raise it for
    a value that this version can't decode.
    """

    dependency = "redis"


class StoreFormatError(StoreUnavailableError):
    """Redis holds a value of another version, which this one can neither read nor write.

    To leave its records out would lose them, so whoever writes has to stop.
    """


class Call(NamedTuple):
    """Arguments of one run of a script."""

    keys: list[str]
    arguments: list[Any]


def connect(settings: RedisSettings, timeout_s: float | None = None) -> Any:
    """A blocking client, which connects on first use. Untyped: its types say `bytes | str`.

    `timeout_s` is the deadline of a command; None: that of the settings.
    """
    timeout_s = settings.timeout_s if timeout_s is None else timeout_s
    return blocking_client(settings.url.get_secret_value(), timeout_s, settings.max_connections)


def on_servers(client: Any, do: Callable[[Any], _T]) -> dict[str, _T]:
    """What a function returns for each server that takes writes, by the server's address.

    It gets the client itself, with an empty address; of a cluster a client of each node that has
    slots.
    """
    if not isinstance(client, BlockingCluster):
        return {"": do(client)}
    with client.refreshing():
        return {name: do(node) for name, node in client.primaries().items()}


def owner(client: Any, key: str) -> str:
    """The address of the server that has a key, as `on_servers` names it."""
    return client.owners([key])[0] if isinstance(client, BlockingCluster) else ""


def ask_owner(client: Any, key: str, commands: Sequence[Command]) -> list[Any]:
    """What the server that has a key answers to commands on one connection; refusals as exceptions.

    Its answers are as they come from the wire.
    """
    if isinstance(client, BlockingCluster):
        name = owner(client, key)
        return client.ask({name: commands})[name]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers


def server_facts(client: Any, section: str | None = None) -> Mapping[str, Any]:
    """A server's INFO, or one section of it; empty where this user may not ask."""
    try:
        facts: Mapping[str, Any] = client.info(section)
    except NoPermissionError:
        return {}
    return facts


class Scripts:
    """Runs the Lua scripts of this folder, for one writer.

    Redis knows a script by the digest of its text. A writer's texts differ from those of all
    others, by a first line of its own, and so a server runs them only after it has met this writer.
    One that has restarted, or that took over, refuses them until then, whatever other writers do.
    They are loaded together, on all nodes of a cluster, at the first call or after a failure, so
    never amid a batch.
    """

    def __init__(self, client: Any, keys: Keys) -> None:
        self._redis = client
        self._settlement = Settlement(client, keys) if isinstance(client, BlockingCluster) else None
        self._shas: dict[str, str] = {}
        self._met: dict[str, tuple[str, str]] = {}
        self._first_line = ""
        # How often another writer was faster, since the start.
        self.lost_races = 0

    def run(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script for each call, in one pipeline.

        Fails once on a server that has restarted, or that took over.
        """
        if not calls:
            return []
        sha = (self._shas or self._load())[name]
        pipeline = self._redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.execute_command("EVALSHA", sha, len(keys), *keys, *arguments)
        outcomes: list[Any] = pipeline.execute(raise_on_error=False)
        failed = next((outcome for outcome in outcomes if isinstance(outcome, Exception)), None)
        if failed is not None:
            self._shas.clear()
            raise failed
        return outcomes

    def replace(self, calls: Sequence[Call]) -> list[bool]:
        """Run `replace.lua` for each call; whether each value was still as it had been read.

        Counts the lost races.
        """
        done = [bool(outcome) for outcome in self.run("replace", calls)]
        self.lost_races += done.count(False)
        return done

    def settle(self) -> None:
        """Return when whatever was written so far, by any writer, outlives the loss of one node.

        Call it between two writes to different nodes of which the second depends on the first:
        each node may lose the end of its history alone (docs/adr/0064). One server loses the end of
        both, so there is nothing to wait for there. Fails as `run` does, and in time.
        """
        if self._settlement is None:
            return
        sha = (self._shas or self._load())["settle"]
        try:
            self._settlement.reach(sha)
        except Exception:
            self._shas.clear()
            raise

    def _load(self) -> dict[str, str]:
        """Have all servers know the scripts; returns their digests by name."""
        met = on_servers(self._redis, _identity)
        # A server that was demoted and promoted again keeps its scripts, and has lost its own
        # history: only the id of that has changed. The same server with the same history gets the
        # same text, since Redis never forgets one.
        if met != self._met:
            self._met, self._first_line = met, f"-- {secrets.token_hex(8)}\n"
        texts = {name: self._first_line + text for name, text in _scripts().items()}
        loaded = on_servers(
            self._redis,
            lambda client: {name: client.script_load(text) for name, text in texts.items()},
        )
        self._shas = next(iter(loaded.values()))
        return self._shas


@contextmanager
def translated() -> Iterator[None]:
    """Within the block, failures of Redis are `StoreUnavailableError`."""
    try:
        yield
    except FAILURES as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
    except layout.OtherFormatError as error:
        raise StoreFormatError(
            "Redis holds values that another version of Slipstream wrote: begin with an empty "
            f"Redis, or with another SLIPSTREAM_NAMESPACE ({error})"
        ) from error
    except layout.LayoutError as error:
        raise StoreUnavailableError(
            f"what Redis holds can't be read by this version: {error}"
        ) from error


def _identity(client: Any) -> tuple[str, str]:
    """The ids of a server's run, and of the history that it goes on with."""
    facts = server_facts(client)
    return str(facts.get("run_id")), str(facts.get("master_replid"))


def _scripts() -> dict[str, str]:
    """The texts of the online store's scripts, by name."""
    paths = [path for path in files(__package__).iterdir() if path.name.endswith(".lua")]
    texts = {path.name.removesuffix(".lua"): path.read_text() for path in paths}
    del texts[_OF_ADMISSION]
    return texts
