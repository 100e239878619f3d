"""Names of a batch's sources, where a log parted from what had been applied of it."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from slipstream.broker.batch import Batch
from slipstream.broker.consumer import Consumer
from slipstream.broker.epochs import EpochSpan
from slipstream.chassis.logging import get_logger
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import Source
from slipstream.stores.online import OnlineStore

log = get_logger(__name__)


class LogLineages:
    """Gives records that took the offsets of lost ones a source of their own. One thread uses it.

    Without that, a state that holds a lost record would drop the new one as applied.
    """

    def __init__(self, store: OnlineStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        # The newest name of each source, by its first.
        self._newest: dict[Source, Source] = {}

    def forget(self) -> None:
        """Forget the sources: partitions come or go."""
        self._newest.clear()

    def positions(self, consumer: Consumer) -> dict[Source, int]:
        """The consumer's next offsets, by the newest name of each source. Raises
        `StoreUnavailableError`.
        """
        positions = consumer.positions()
        new = {source.name: source for source in positions if source not in self._newest}
        for name, (parted, _) in self._store.follow(dict.fromkeys(new, ())).items():
            self._note(new[name], parted)
        return {self._newest.get(source, source): offset for source, offset in positions.items()}

    def named(self, batch: Batch, consumer: Consumer) -> Batch:
        """The batch with its records' sources. Call before any of it is applied.

        Where a log has parted just now, the consumer commits that, so that the offsets of lost
        records, which may be under way, are never committed. Raises `StoreUnavailableError`.
        """
        spans = {source: theirs for source, theirs in batch.spans.items() if theirs[-1].epoch >= 0}
        lineages = self._store.follow({source.name: theirs for source, theirs in spans.items()})
        begun: dict[Source, list[tuple[int, Source]]] = {}
        for source, theirs in spans.items():
            parted, found = lineages[source.name]
            self._note(source, parted)
            if not parted:
                continue
            begun[source] = _begun(source, theirs, parted)
            if found:
                offset, since = begun[source][-1]
                log.error(
                    "records that were applied are lost from the log; others took their offsets",
                    topic=source.topic, partition=source.partition, offset=offset,
                )  # fmt: skip
                self._metrics.log_truncations.labels(source.topic).inc()
                consumer.commit({since: offset})
        return _renamed(batch, begun) if begun else batch

    def _note(self, source: Source, parted: Sequence[int]) -> None:
        self._newest[source] = source.since(parted[-1]) if parted else source


def _begun(
    source: Source, spans: Sequence[EpochSpan], parted: Sequence[int]
) -> list[tuple[int, Source]]:
    """The offsets at which the source's name changes in these spans, with the name from there."""
    begun: list[tuple[int, Source]] = []
    for span in spans:
        earlier = bisect_right(parted, span.epoch)
        name = source.since(parted[earlier - 1]) if earlier else source
        if not begun or begun[-1][1] != name:
            begun.append((span.first, name))
    return begun


def _renamed(batch: Batch, begun: dict[Source, list[tuple[int, Source]]]) -> Batch:
    def name(source: Source, offset: int) -> Source:
        names = begun.get(source)
        return source if names is None else [to for first, to in names if first <= offset][-1]

    first, following = dict(batch.first_offsets), dict(batch.next_offsets)
    for source, names in begun.items():
        end = following.pop(source)
        del first[source]
        ends = [*(offset for offset, _ in names[1:]), end]
        for (offset, to), its_end in zip(names, ends, strict=True):
            first[to], following[to] = offset, its_end
    return Batch(
        messages=[replace(each, source=name(each.source, each.offset)) for each in batch.messages],
        malformed=[
            replace(each, source=name(each.source, each.offset)) for each in batch.malformed
        ],
        next_offsets=following,
        first_offsets=first,
        spans=batch.spans,
    )
