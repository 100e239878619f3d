"""Connection to Redis: the client, its errors, and the scripts that every write goes through."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, NamedTuple

from redis.exceptions import NoPermissionError, RedisError

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import RedisSettings
from slipstream.stores import layout
from slipstream.stores.redis_clients import blocking_client

# Script of the admission store, which has a connection and a key space of its own.
_OF_ADMISSION: Final = "admit"


class StoreUnavailableError(DependencyUnavailableError):
    """Redis is away, still loading, out of memory or read-only.

    It is not known whether anything was written; the call can be repeated. Reads also raise it for
    a value that this version can't decode.
    """

    dependency = "redis"


class StoreTooNewError(StoreUnavailableError):
    """Redis holds a state of a newer version, which this one can neither read nor write.

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


def server_facts(client: Any, section: str | None = None) -> Mapping[str, Any]:
    """A server's INFO, or one section of it; empty where this user may not ask."""
    try:
        facts: Mapping[str, Any] = client.info(section)
    except NoPermissionError:
        return {}
    return facts


class Scripts:
    """Runs the Lua scripts beside this file, for one writer.

    Redis knows a script by the digest of its text. A writer's texts differ from those of all
    others, by a first line of its own, and so a server runs them only after it has met this writer.
    One that has restarted, or that took over, refuses them until then, whatever other writers do.
    They are loaded together, at the first call or after a failure, so never amid a batch.
    """

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._shas: dict[str, str] = {}
        self._server: tuple[str, str] | None = None
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

    def _load(self) -> dict[str, str]:
        """Have the server know the scripts; returns their digests by name."""
        facts = server_facts(self._redis)
        server = str(facts.get("run_id")), str(facts.get("master_replid"))
        # A server that was demoted and promoted again keeps its scripts, and has lost its own
        # history: only the id of that has changed. The same server with the same history gets the
        # same text, since Redis never forgets one.
        if server != self._server:
            self._server, self._first_line = server, f"-- {secrets.token_hex(8)}\n"
        self._shas = {
            name: self._redis.script_load(self._first_line + text)
            for name, text in _scripts().items()
        }
        return self._shas


@contextmanager
def translated() -> Iterator[None]:
    """Within the block, failures of Redis are `StoreUnavailableError`."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
    except layout.NewerLayoutError as error:
        raise StoreTooNewError(
            "Redis holds states of a newer version of Slipstream, which this one must not write: "
            f"finish the upgrade ({error})"
        ) from error
    except layout.LayoutError as error:
        raise StoreUnavailableError(
            f"what Redis holds can't be read by this version: {error}"
        ) from error


def _scripts() -> dict[str, str]:
    """The texts of the online store's scripts, by name."""
    paths = [path for path in files(__package__).iterdir() if path.name.endswith(".lua")]
    texts = {path.name.removesuffix(".lua"): path.read_text() for path in paths}
    del texts[_OF_ADMISSION]
    return texts
