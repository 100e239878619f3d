"""Lineages of logs in Redis: how far each was applied, and where it parted from that.

After an unclean election a log lacks records that were applied, and has others under their offsets.
A state that holds the lost ones would take the new ones for applied. So what is about to be applied
is noted here first, with its leader epochs, which tell the two apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from slipstream.stores.connection import Call, Scripts
from slipstream.stores.keys import Keys

# Leader epoch, first and last offset of records that stand in a row.
Span = tuple[int, int, int]


class Lineage(NamedTuple):
    """The leader epochs at which a log parted from what had been applied, in order; `found` of them
    were not known before.
    """

    parted: Sequence[int]
    found: int


class Lineages:
    """The lineages, for one writer. Methods raise what Redis and its client raise."""

    def __init__(self, scripts: Scripts, keys: Keys) -> None:
        self._scripts, self._keys = scripts, keys

    def follow(self, spans: Mapping[str, Sequence[Span]]) -> dict[str, Lineage]:
        """Note spans that are about to be applied, by source; returns the lineage of each."""
        if not spans:
            return {}
        arguments: list[Any] = []
        for theirs in spans.values():
            arguments += [len(theirs), *(number for span in theirs for number in span)]
        keys = [self._keys.lineage(source) for source in spans]
        (answers,) = self._scripts.run("lineage", [Call(keys, arguments)])
        return {
            source: Lineage(parted, found)
            for source, (found, parted) in zip(spans, answers, strict=True)
        }
