"""The thread that brings faults about while a client sends."""

import threading
from abc import ABC, abstractmethod
from collections import Counter


class FaultThread(threading.Thread, ABC):
    """Brings faults about until all of them were, or until it is ended.

    Attributes:
        kills: The faults that were brought about, by name.
        slowest_restart_s: The longest that something took to be there again.
        failure: The error that ended it; empty for none.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._ended = threading.Event()
        self.kills: Counter[str] = Counter()
        self.slowest_restart_s = 0.0
        self.failure = ""

    @property
    def busy(self) -> bool:
        return self.is_alive() and not self._ended.is_set()

    @property
    @abstractmethod
    def left(self) -> Counter[str]:
        """The faults that have not come to pass, by name."""

    @abstractmethod
    def _bring_about(self) -> None:
        """Bring all faults about, or return soon after `_ended` is set."""

    def run(self) -> None:
        try:
            self._bring_about()
        except Exception as error:  # the test reports it
            self.failure = f"{type(error).__name__}: {error}"

    def end(self) -> None:
        """Bring nothing more about, and wait for what is under way."""
        self._ended.set()
        self.join()
