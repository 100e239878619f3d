"""Rollbacks of Redis: it has lost its last writes, and stands where it stood some time ago.

So it does after a crash that cuts its append-only file, after a failover to a replica that lagged,
and from a backup. Each consumer finds that out by itself, from the checkpoints of its sources.
"""

from collections.abc import Iterable, Mapping

from services.features.metrics import FeaturesMetrics
from slipstream.chassis.logging import get_logger
from slipstream.contracts.positions import Source
from slipstream.stores.online import CheckpointMove, OnlineStore, StoreUnavailableError

log = get_logger(__name__)


class StoreRolledBackError(StoreUnavailableError):
    """Redis lacks effects that it had; the records have to be read again."""


class RollbackWatch:
    """Checkpoints of the sources that one consumer reads. One thread uses it.

    Methods raise `StoreUnavailableError`.
    """

    def __init__(self, store: OnlineStore, measured: FeaturesMetrics) -> None:
        self._store, self._measured = store, measured
        # The least that each source's checkpoint has to be. One that is unknown here was not read
        # by this consumer yet.
        self._least: dict[Source, int] = {}

    def forget(self) -> None:
        """Forget the sources: partitions come or go."""
        self._least.clear()

    def verify(self, reached: Mapping[Source, int]) -> None:
        """Raise `StoreRolledBackError` if Redis lacks effects that it had.

        Call before records are applied: a state that lost a record must not take a later one of
        its source, since the lost one would then pass for applied.

        Args:
            reached: where reading stands in each source. Another consumer may have read up to
                there, so Redis must have the effects of what lies before.
        """
        sources = {**reached, **self._least}
        held = self._store.checkpoints([source.name for source in sources])
        for source in sources:
            now, least = held.get(source.name), self._least.get(source)
            if least is None:
                if now is None:  # A new topic, or one that an older version has read.
                    continue
                least = self._least[source] = reached[source]
            if now is None or now < least:
                raise StoreRolledBackError(
                    f"Redis has lost writes: of {source.topic}:{source.partition} it has what "
                    f"lies before offset {now or 0}, and had what lies before {least}"
                )

    def advance(self, next_offsets: Mapping[Source, int]) -> None:
        """Note that everything before these offsets has been applied.

        Raises `StoreRolledBackError` if Redis has lost writes meanwhile.
        """
        moves = {
            source.name: CheckpointMove(self._least.get(source, -1), offset)
            for source, offset in next_offsets.items()
        }
        if not self._store.advance(moves):
            raise StoreRolledBackError("Redis has lost writes while a batch was applied")
        for source, offset in next_offsets.items():
            self._least[source] = max(offset, self._least.get(source, -1))

    def resume(self, sources: Iterable[Source]) -> dict[Source, int]:
        """The offset of each source from which on effects may be missing, where that is known.

        Reading has to go on from there. Losses are logged and counted here, however they showed.
        """
        by_name = {source.name: source for source in {*sources, *self._least}}
        held = self._store.checkpoints([*by_name])
        lost = sorted(
            f"{source.topic}:{source.partition} from {held.get(source.name, 0)} to {least}"
            for source, least in self._least.items()
            if held.get(source.name, -1) < least
        )
        if lost:
            log.error("Redis has lost writes; they are read again", lost=lost)
            self._measured.rollbacks.inc()
        self._least = {by_name[name]: offset for name, offset in held.items()}
        return dict(self._least)
