"""Upkeep of Redis: its memory is exported, and a server that can't be taken is refused."""

import threading
from typing import Final

from services.features.metrics import RedisMetrics
from slipstream.chassis.logging import get_logger
from slipstream.stores.online import OnlineStore, StoreUnavailableError

log = get_logger(__name__)

_LOOK_EVERY_S: Final = 10.0


def watch_redis(store: OnlineStore, measured: RedisMetrics, stop: threading.Event) -> None:
    """Look at once, then every ten seconds until `stop` is set.

    Raises `RefusedSettingsError` when Redis would evict keys, or is a node of a cluster: also when
    that was set meanwhile, or when another server has taken over. While Redis is away the metrics
    keep their values.
    """
    while True:
        try:
            memory = store.memory()
            measured.memory.set(memory.used)
            measured.memory_limit.set(memory.limit or 0)
        except StoreUnavailableError as error:
            log.debug("the memory of Redis can't be looked up", reason=str(error))
        if stop.wait(_LOOK_EVERY_S):
            return
