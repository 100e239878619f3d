"""Retry of work that needs a server which may be away for a while."""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from slipstream.chassis.dependencies import DependencyUnavailableError, StandbyError
from slipstream.chassis.logging import get_logger

log = get_logger(__name__)

# Seconds between tries.
RETRY_S: Final = 2.0

Result = TypeVar("Result")


class PostponedError(Exception):
    """The service ends before the servers answer; the next one makes up for the work."""


def until_answered(attempt: Callable[[], Result], stop: threading.Event) -> Result:
    """The result of `attempt`, which is called again as long as a server does not answer.

    Other errors pass. Raises PostponedError where a server does not answer and `stop` is set, or
    another instance acts by now.
    """
    warned = False
    while True:
        try:
            return attempt()
        except DependencyUnavailableError as error:
            if stop.is_set() or isinstance(error, StandbyError):
                raise PostponedError(str(error)) from error
            if not warned:
                log.warning("work waits", waits_for=error.dependency, reason=str(error))
            warned = True
            stop.wait(RETRY_S)
