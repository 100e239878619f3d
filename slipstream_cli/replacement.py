"""A corrected file takes the place of the one it corrects: withdrawal, and the states after it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import click

from services.features.history.backfill import BackfillRequest, backfill
from services.features.history.withdrawal import empty_states, find_rows, withdraw
from services.features.stream.materializer import GROUP
from slipstream.broker.log_ends import committed_offsets, log_ends
from slipstream.chassis.dependencies import DependencyUnavailableError
from slipstream.contracts.topics import INTERACTIONS
from slipstream.stores.admission_store import forget_interactions
from slipstream.stores.lake import Lake, LakeLease

if TYPE_CHECKING:
    from services.features.settings import FeaturesSettings
    from slipstream.datasets.imports.corrections import Correction


# Longest wait for features to bring what the broker has into the lake.
PATIENCE_S: Final = 300.0
_POLL_S: Final = 0.5


class Replacement:
    """The replacement of an earlier file, in two steps, between which the corrected one is sent.

    A step that was broken off is done again by the same command.
    """

    def __init__(
        self, settings: "FeaturesSettings", correction: "Correction", tell: Callable[[str], None]
    ) -> None:
        """`tell` is called with what happens next."""
        self._settings, self._correction, self._tell = settings, correction, tell

    def withdraw(self) -> int:
        """Withdraw the earlier events, once all are in the lake; returns the number of rows.

        Raises:
            click.ClickException: Features does not catch up, or a server does not answer.
        """
        settings, gone = self._settings, self._correction
        with _explained():
            self._settle()
            self._tell("withdrawing events")
            lake = Lake(settings.lake, settings.namespace)
            found = find_rows(lake, gone.withdrawn, gone.kept, (gone.first, gone.last))
            gone.visitors |= found.visitors
            gone.items |= found.items
            lease = LakeLease(settings.redis, settings.namespace)
            try:
                return withdraw(
                    lake,
                    found,
                    partial(forget_interactions, settings.redis, settings.namespace),
                    lease.hold,
                )
            finally:
                lease.release()
                lease.close()

    def rebuild(self) -> None:
        """Rebuild the online store from the lake, which has the corrected events by then.

        Raises:
            click.ClickException: Features does not catch up, a server does not answer, or states
                were left as they are.
        """
        settings, gone = self._settings, self._correction
        with _explained():
            self._settle()
            self._tell("rebuilding the online store")
            report = backfill(settings, BackfillRequest(), lambda _step: None)
            left = empty_states(settings, gone.visitors, gone.items)
        if left or not report.complete:
            raise click.ClickException(
                "some states are newer than the lake and were not rebuilt: run this again"
            )

    def _settle(self) -> None:
        """Wait until the group of features has committed everything that the broker has now."""
        kafka, namespace = self._settings.kafka, self._settings.namespace
        self._tell("waiting for features")
        ends = log_ends(kafka, namespace, [INTERACTIONS])[INTERACTIONS.name]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            committed = committed_offsets(kafka, namespace, [INTERACTIONS], GROUP)
            if all(committed.get(source, 0) >= end for source, end in ends.items()):
                return
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"features has not caught up in {PATIENCE_S:.0f} s (its /v1/status): run this"
                    " again once it has"
                )
            time.sleep(_POLL_S)


@contextmanager
def _explained() -> Iterator[None]:
    """Within the block, a server that does not answer ends the command with one line."""
    try:
        yield
    except DependencyUnavailableError as error:
        raise click.ClickException(f"{error}; run this again once it answers") from error
