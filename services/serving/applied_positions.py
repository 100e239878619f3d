"""Positions of the records that a state was made from."""

from collections.abc import Mapping, Sequence

from slipstream.contracts.positions import split_source


class AppliedPositions:
    """The next offset of each partition, behind the records that were taken in.

    Written by one thread at a time, read by others.
    """

    def __init__(self) -> None:
        self._ends: dict[str, int] = {}
        self._noted = 0
        self._by_topic: tuple[int, Mapping[str, Sequence[int]]] = (0, {})

    def note(self, source: str, offset: int) -> None:
        """Note that the record at this position was taken in; one without a source has none."""
        if source and offset >= self._ends.get(source, 0):
            self._ends[source] = offset + 1
            self._noted += 1

    def by_topic(self) -> Mapping[str, Sequence[int]]:
        """The next offset of each partition, by the topic's id; 0 where there was no record.

        The same mapping comes again until further records come; don't write to it.
        """
        noted = self._noted
        if noted != self._by_topic[0]:
            ends: dict[str, list[int]] = {}
            for source, end in list(self._ends.items()):
                topic_id, partition = split_source(source)
                of_topic = ends.setdefault(topic_id, [])
                of_topic += [0] * (partition + 1 - len(of_topic))
                of_topic[partition] = end
            # Of the number before: a record that came meanwhile makes another mapping.
            self._by_topic = noted, ends
        return self._by_topic[1]
