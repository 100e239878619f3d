"""Dead letters and marks of those replayed, and a file that outlives the embedded broker."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slipstream.broker.kafka import BrokerUnavailableError
from slipstream.broker.loop import read_to_end
from slipstream.broker.producer import Producer
from slipstream.broker.records import Message, encode
from slipstream.broker.topics import ensure_topics, physical, topic_ids
from slipstream.chassis.settings import KafkaSettings
from slipstream.contracts.events import DeadLetter
from slipstream.contracts.progress import Progress, ProgressStep
from slipstream.contracts.times import now_ms
from slipstream.contracts.topics import DEAD_LETTERS
from slipstream_cli.dead_letters import KEPT_FILE

# Seconds without a record after which the broker counts as away.
PATIENCE_S = 15.0
# Code of a record that is a mark and no letter.
REPLAYED: Final = "replayed"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter.

    `id` is its position, with the incarnation of the topic, so it is unique forever. A letter that
    `restore_letters` put on the topic keeps the id that it had.
    """

    id: str
    record: DeadLetter

    @classmethod
    def of(cls, message: Message[DeadLetter]) -> "Letter":
        position = f"{message.source.name}:{message.offset}"
        return cls(message.record.letter_id or position, message.record)

    @property
    def marked(self) -> Sequence[str]:
        """Ids of the letters that were replayed, where this is a mark of them; else none."""
        ids: Sequence[str] = self.record.original if self.record.code == REPLAYED else ()
        return ids


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


def stored_letters(
    kafka: KafkaSettings, namespace: str, progress: Progress = lambda _: None
) -> Generator[Letter, None, None]:
    """Yield the letters and marks up to the topic's present end, a partition's in their order.

    Args:
        progress: Called with the number of letters read so far.

    Raises:
        BrokerUnavailableError: The broker does not answer.
    """
    if not topic_ids(kafka, [physical(namespace, DEAD_LETTERS)]):
        return  # no service has run in this namespace yet
    read = 0
    with closing(read_to_end(kafka, namespace, DEAD_LETTERS, PATIENCE_S)) as batches:
        for batch in batches:
            yield from map(Letter.of, batch.messages)
            read += len(batch.messages)
            progress(ProgressStep("letters", read, None))


@contextmanager
def replay_marks(kafka: KafkaSettings, namespace: str) -> Iterator[Callable[[Sequence[str]], None]]:
    """Open the topic for marks: a call notes that the letters with these ids were replayed.

    A mark is younger than its letters, so retention takes it after them. A consumer group's offset
    would not do, since the replayed letters need not be the oldest.

    Raises:
        BrokerUnavailableError: The broker does not take a mark.
    """

    def mark(ids: Sequence[str]) -> None:
        if ids:
            record = DeadLetter(
                source=REPLAYED,
                code=REPLAYED,
                reason=f"{len(ids)} letters were sent again",
                original=ids,
                received_at=now_ms(),
            )
            producer.send(DEAD_LETTERS, REPLAYED, record)
            producer.flush()
        if producer.failures:
            raise BrokerUnavailableError("the broker does not take which letters were sent again")

    with closing(Producer(kafka, namespace)) as producer:
        yield mark


# Most letters in the file, the newest. One has a kilobyte, more or less.
MOST_KEPT: Final = 100_000


def keep_letters(kafka: KafkaSettings, namespace: str, directory: Path) -> bool:
    """Write the topic's letters to a file in `directory`, before the embedded broker ends.

    Letters that are older than the topic's retention are left out. Where it fails, an earlier file
    stays.

    Returns:
        Whether the file has all of them.

    Raises:
        BrokerUnavailableError: The broker does not answer.
        OSError: The file can't be written.
    """
    expired = now_ms() - (DEAD_LETTERS.retention_ms or 0)
    letters = [it for it in stored_letters(kafka, namespace) if it.record.received_at >= expired]
    letters.sort(key=lambda letter: letter.record.received_at)
    unfinished = directory / f"{KEPT_FILE}.unfinished"
    unfinished.touch(mode=0o600)
    with unfinished.open("wb") as file:
        for letter in letters[-MOST_KEPT:]:
            record = letter.record.model_copy(update={"letter_id": letter.id})
            file.write(encode(record) + b"\n")
    unfinished.replace(directory / KEPT_FILE)
    return len(letters) <= MOST_KEPT


def restore_letters(kafka: KafkaSettings, namespace: str, directory: Path) -> None:
    """Send the letters of `keep_letters` to the topic of an embedded broker that has just started.

    Raises:
        BrokerUnavailableError: The broker does not take them.
        OSError, ValueError: The file can't be read.
    """
    path = directory / KEPT_FILE
    ensure_topics(kafka, namespace)
    with closing(Producer(kafka, namespace)) as producer, path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            letter = DeadLetter.model_validate_json(line)
            producer.send(DEAD_LETTERS, letter.source, letter)
            if number % 100 == 0:  # each may have 256 KiB, and a producer holds 64 MiB
                producer.flush()
        producer.flush()
        if producer.failures:
            raise BrokerUnavailableError(
                f"{producer.failures:,} dead letters of the last run could not be restored;"
                f" {path} has them"
            )
