"""Figures of a sample of the catalogue: which attributes have values, and how many different."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from slipstream.filters.evaluation import values_of

# Different values of an attribute that are counted; more are "many".
_VALUES_KEPT: Final = 20_000
# Attributes that are counted; a catalogue with more names of them has them by mistake.
MOST_ATTRIBUTES: Final = 200


@dataclass(slots=True)
class AttributeFigures:
    """Figures of one attribute.

    Attributes:
        items: Items that name it.
        filled: Items with a value other than null, "" and [].
        texts: Items whose value is a text or a list of texts.
        uses: Items by value, for up to 20,000 values.
    """

    items: int = 0
    filled: int = 0
    texts: int = 0
    uses: dict[str | float, int] = field(default_factory=dict)


@dataclass(slots=True)
class CatalogueFigures:
    """Figures of a sample of the catalogue beside the items of the events.

    Attributes:
        sampled: Items of the sample.
        whole: Whether the sample is the whole catalogue.
        unavailable: Those that are not available.
        attributes: Figures by attribute.
        unseen: Items of the sample that no sampled event is about.
        event_items: Items of the events that were looked for in the catalogue.
        lacking: Those that it does not have.
        lacking_events: Events that are about these.
    """

    sampled: int = 0
    whole: bool = True
    unavailable: int = 0
    attributes: dict[str, AttributeFigures] = field(
        default_factory=lambda: defaultdict(AttributeFigures)
    )
    unseen: int = 0
    event_items: int = 0
    lacking: list[str] = field(default_factory=list)
    lacking_events: int = 0

    def count(
        self, item_id: str, attributes: Mapping[str, Any], available: bool, seen: Collection[str]
    ) -> None:
        """Count an item.

        Args:
            item_id: The item.
            attributes: Its attributes.
            available: Whether it may be recommended.
            seen: Items of the events.
        """
        self.sampled += 1
        self.unavailable += not available
        self.unseen += item_id not in seen
        for name, value in attributes.items():
            if name not in self.attributes and len(self.attributes) >= MOST_ATTRIBUTES:
                continue
            figures = self.attributes[name]
            figures.items += 1
            values = values_of(attributes, name)
            if not values:
                continue
            figures.filled += 1
            figures.texts += isinstance(value, str | list)
            for each in values:
                if each in figures.uses or len(figures.uses) < _VALUES_KEPT:
                    figures.uses[each] = figures.uses.get(each, 0) + 1
