"""Dead letters on the topic, and a filter of them."""

from collections.abc import Container, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from slipstream.broker.loop import read_to_end
from slipstream.broker.records import Message
from slipstream.broker.topics import physical, topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import DeadLetter
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.topics import DEAD_LETTERS

# Seconds without a record after which the broker counts as away.
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    `id` is its position, with the incarnation of the topic, so it is unique forever.
    """

    id: str
    record: DeadLetter

    @classmethod
    def of(cls, message: Message[DeadLetter]) -> "Letter":
        return cls(f"{message.source.name}:{message.offset}", message.record)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """A filter of letters.

    Attributes:
        codes: Codes to keep; empty: all.
        sources: Sources to keep; empty: all.
        since: Earliest time of receipt, in ms since the epoch.
    """

    codes: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    since: int = 0

    def __contains__(self, letter: object) -> bool:
        if not isinstance(letter, Letter):
            return False
        record = letter.record
        return (
            record.received_at >= self.since
            and (not self.codes or record.code in self.codes)
            and (not self.sources or record.source in self.sources)
        )


ALL_LETTERS: Final = LetterFilter()


def read_letters(
    kafka: KafkaSettings,
    namespace: str,
    chosen: LetterFilter,
    progress: Progress = lambda _: None,
    also: Container[Letter] = (),
) -> list[Letter]:
    """Read the chosen letters up to the topic's present end, in order of receipt.

    Args:
        kafka: The broker.
        namespace: The namespace of the topic.
        chosen: The filter.
        progress: Called with the number of letters read so far, also those that are filtered out.
        also: Letters that are kept although they don't pass the filter.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    letters: list[Letter] = []
    for read, letter in enumerate(stored_letters(kafka, namespace), 1):
        progress(ProgressStep("letters", read, None))
        if letter in chosen or letter in also:
            letters.append(letter)
    return sorted(letters, key=lambda letter: letter.record.received_at)


def stored_letters(kafka: KafkaSettings, namespace: str) -> Generator[Letter, None, None]:
    """Yield the letters up to the topic's present end, those of a partition in their order.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    if not topic_ids(kafka, [physical(namespace, DEAD_LETTERS)]):
        return  # no service has run in this namespace yet
    with closing(read_to_end(kafka, namespace, DEAD_LETTERS, PATIENCE_S)) as batches:
        for batch in batches:
            yield from map(Letter.of, batch.messages)
