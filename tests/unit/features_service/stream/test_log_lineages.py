"""Records that took the offsets of lost ones have a source of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from services.features.stream.log_lineages import LogLineages
from slipstream.broker.batch import Batch, MalformedMessage, Message
from slipstream.broker.epochs import EpochSpan
from slipstream.chassis.metrics import Metrics
from slipstream.contracts.positions import Source
from slipstream.stores.checkpoints import Lineage, Span

AT, OTHER = Source("interactions.v1", "id", 0), Source("interactions.v1", "id", 1)


class Store:
    """Answers with one lineage for `AT`."""

    def __init__(self, *parted: int, found: int = 0) -> None:
        self.lineage = Lineage(parted, found)
        self.asked: list[Any] = []

    def follow(self, spans: Mapping[str, Sequence[Span]]) -> dict[str, Lineage]:
        self.asked.append(spans)
        return {name: self.lineage if name == AT.name else Lineage((), 0) for name in spans}


class Commits:
    """Stands at positions, and notes what is committed."""

    def __init__(self, positions: Mapping[Source, int] | None = None) -> None:
        self.made: list[Mapping[Source, int]] = []
        self._positions = positions or {}

    def positions(self) -> dict[Source, int]:
        return dict(self._positions)

    def commit(self, offsets: Mapping[Source, int]) -> bool:
        self.made.append(offsets)
        return True


def batch_of(*spans: tuple[int, int, int]) -> Batch:
    """A batch of `AT` with these spans, whose last record is malformed, and two of another."""
    theirs = [EpochSpan(*span) for span in spans]
    offsets = [at for span in theirs for at in range(span.first, span.last + 1)]
    return Batch(
        messages=[Message(AT, at, "k", None, "") for at in offsets[:-1]]
        + [Message(OTHER, at, "k", None, "") for at in (70, 71)],
        malformed=[MalformedMessage(AT, offsets[-1], b"", "bad", "")],
        next_offsets={AT: offsets[-1] + 1, OTHER: 72},
        first_offsets={AT: offsets[0], OTHER: 70},
        spans={AT: theirs, OTHER: [EpochSpan(1, 70, 71)]},
    )


def named(store: Store, batch: Batch) -> tuple[Batch, Commits, Metrics]:
    commits, metrics = Commits(), Metrics("test")
    return LogLineages(store, metrics).named(batch, commits), commits, metrics  # type: ignore[arg-type]


def test_a_log_that_never_parted_keeps_its_name() -> None:
    batch = batch_of((1, 10, 12), (3, 13, 15))
    result, commits, _ = named(Store(), batch)
    assert result is batch and not commits.made


def test_an_epoch_that_the_broker_does_not_tell_is_not_asked_about() -> None:
    store, batch = Store(5), batch_of((-1, 10, 12))
    named(store, batch)
    assert [*store.asked[0]] == [OTHER.name]


def test_names_change_with_the_epochs_at_which_the_log_parted() -> None:
    store = Store(3, 9, found=1)
    result, commits, metrics = named(
        store, batch_of((1, 8, 9), (3, 10, 11), (4, 12, 12), (9, 13, 14))
    )
    third, ninth = AT.since(3), AT.since(9)
    names = {m.offset: m.source for m in (*result.messages, *result.malformed)}
    assert names == {
        70: OTHER, 71: OTHER, 8: AT, 9: AT, 10: third, 11: third, 12: third, 13: ninth, 14: ninth,
    }  # fmt: skip
    assert result.first_offsets == {OTHER: 70, AT: 8, third: 10, ninth: 13}
    assert result.next_offsets == {OTHER: 72, AT: 10, third: 13, ninth: 15}
    assert commits.made == [{ninth: 13}], "no offset of a lost record is to be committed any more"
    topic = {"topic": AT.topic}
    assert metrics.registry.get_sample_value("slipstream_log_truncations_total", topic) == 1


def test_a_log_that_parted_long_ago_has_its_name_and_is_not_told_again() -> None:
    result, commits, _ = named(Store(3), batch_of((4, 20, 22)))
    assert {m.source for m in result.malformed} == {AT.since(3)}
    assert not commits.made


def test_positions_have_the_newest_name_also_before_anything_was_read() -> None:
    store = Store(3, 9)
    lineages = LogLineages(store, Metrics("test"))  # type: ignore[arg-type]
    reader = Commits({AT: 50, OTHER: 6})
    for _ in range(2):
        assert lineages.positions(reader) == {AT.since(9): 50, OTHER: 6}  # type: ignore[arg-type]
    assert store.asked == [{AT.name: (), OTHER.name: ()}, {}]
    lineages.forget()
    store.lineage = Lineage((3, 9, 12), 0)
    assert lineages.positions(reader) == {AT.since(12): 50, OTHER: 6}  # type: ignore[arg-type]
