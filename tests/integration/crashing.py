"""An online store that stops after so many writes, as a process that is killed between two of them
does.
"""

from collections.abc import Callable
from typing import Any

from slipstream.chassis.settings import RedisSettings
from slipstream.stores.online import OnlineStore


class StoppedError(Exception):
    """The process is no more."""


class Interrupted:
    """A Redis client that does `writes` more writes and then none. Commands of a pipeline count one
    by one.
    """

    def __init__(self, client: Any, writes: int) -> None:
        self._client, self.left = client, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def sadd(self, *arguments: Any) -> Any:
        self.spend()
        return self._client.sadd(*arguments)

    def pipeline(self, **options: Any) -> Any:
        return _Pipeline(self, self._client, options)

    def spend(self) -> None:
        if self.left <= 0:
            raise StoppedError
        self.left -= 1


class _Pipeline:
    def __init__(self, interrupted: Interrupted, client: Any, options: dict[str, Any]) -> None:
        self._interrupted, self._client, self._options = interrupted, client, options
        self._commands: list[Callable[[Any], Any]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def queue(*arguments: Any) -> None:
            self._commands.append(lambda pipeline: getattr(pipeline, name)(*arguments))

        return queue

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        outcomes = []
        for command in self._commands:
            self._interrupted.spend()
            one = self._client.pipeline(**self._options)
            command(one)
            outcomes += one.execute(raise_on_error=raise_on_error)
        return outcomes


def interrupted_store(settings: RedisSettings, namespace: str, writes: int) -> OnlineStore:
    """A writer of its own that raises `StoppedError` in place of the write after so many."""
    store = OnlineStore(settings, namespace)
    client = Interrupted(store._redis, writes)
    store._redis = store._scripts._redis = store._visitors._values._redis = client
    return store
