"""Connection to Redis: the client, its errors, and the scripts that every write goes through."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import redis
from redis.exceptions import RedisError

from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.chassis.settings import RedisSettings
from slipstream.stores import layout


class StoreUnavailableError(DependencyUnavailableError):
    """Redis is away, still loading, out of memory or read-only.

    It is not known whether anything was written; the call can be repeated. Reads also raise it for
    a value that this version can't decode.
    """

    dependency = "redis"


class Call(NamedTuple):
    """Arguments of one run of a script."""

    keys: list[str]
    arguments: list[Any]


def connect(settings: RedisSettings) -> Any:
    """A blocking client, which connects on first use. Untyped: its types say `bytes | str`."""
    return redis.Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        max_connections=settings.max_connections,
    )


class Scripts:
    """Runs the Lua scripts beside this file."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._shas: dict[str, str] = {}
        # How often another writer was faster, since the start.
        self.lost_races = 0

    def run(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run a script for each call, in one pipeline.

        Fails once on a restarted server (see `restarted`).
        """
        if not calls:
            return []
        sha = self._shas.get(name) or self._shas.setdefault(
            name, self._redis.script_load(_script(name))
        )
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

    def restarted(self) -> bool:
        """Whether the server no longer has the scripts: it has restarted, or is another one."""
        known = all(self._redis.script_exists(*self._shas.values())) if self._shas else True
        if not known:
            self._shas.clear()
        return not known


@contextmanager
def translated() -> Iterator[None]:
    """Within the block, failures of Redis are `StoreUnavailableError`."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error
    except layout.LayoutError as error:
        raise StoreUnavailableError(
            f"what Redis holds can't be read by this version: {error}"
        ) from error


def _script(name: str) -> str:
    return files(__package__).joinpath(f"{name}.lua").read_text()
