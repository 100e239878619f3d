"""A corrected file replaces the one it corrects, while two replicas of features run."""

from collections.abc import Sequence

import pytest

from services.features.settings import FeaturesSettings
from slipstream.contracts.events import Interaction
from slipstream.datasets.imports.corrections import Correction
from slipstream_cli.replacement import Replacement
from tests.integration.running_materializer import members, running, steady
from tests.integration.shop_stream import assert_exactly, events, link, send, send_entries
from tests.waiting import until


def imported(made: Sequence[Interaction], prefix: str) -> list[Interaction]:
    return [
        event.model_copy(update={"imported": True, "event_id": f"{prefix}{event.event_id}"})
        for event in made
    ]


def correction(withdrawn: Sequence[Interaction], kept: Sequence[Interaction]) -> Correction:
    times = [event.timestamp for event in withdrawn]
    return Correction(
        withdrawn={event.event_id for event in withdrawn},
        kept={event.event_id for event in kept},
        visitors={event.user_id for event in withdrawn},
        items={event.item_id for event in withdrawn if event.item_id},
        first=min(times),
        last=max(times),
    )


@pytest.mark.servers("real")  # it takes ten seconds
def test_a_corrected_file_leaves_nothing_of_the_earlier_one(settings: FeaturesSettings) -> None:
    settings = steady(settings)
    live = events(300, first=1_000, seed=3)
    earlier = imported(events(200, seed=5), "f-")
    # Seen in the earlier file alone: a visitor with an item, and a device that became a user.
    lost = imported(events(12, first=500, seed=6, visitors=1, items=1), "f-")
    lost = [
        event.model_copy(update={"user_id": "lost" if n % 2 else "device", "item_id": "lost-item"})
        for n, event in enumerate(lost)
    ]
    dropped, changed, kept = earlier[:40], earlier[40:80], earlier[80:]
    said_otherwise = [
        event.model_copy(update={"event_type": "view", "item_id": "i7", "value": None})
        for event in changed
    ]
    added = imported(events(30, first=700, seed=8), "f-")
    with running(settings) as one, running(settings) as other:
        until(lambda: members(settings) == 2)
        send(one.producer, [*live, *earlier, *lost])
        send_entries(one.producer, [link("device", "somebody")])
        one.settle()
        other.settle()
        assert one.store.visitor("somebody") is not None

        def replacement() -> Replacement:
            gone = correction([*dropped, *changed, *lost], kept)
            return Replacement(settings, gone, lambda _words: None)

        assert replacement().withdraw() == 40 + 40 + 12
        # Broken off while the corrected file is sent, the command begins again.
        send(other.producer, said_otherwise[:25])
        again = replacement()
        assert again.withdraw() == 25
        send(other.producer, [*said_otherwise, *kept, *added])
        more = events(50, first=2_000, seed=9)
        send(one.producer, more)
        again.rebuild()

        due = [*live, *kept, *said_otherwise, *added, *more]
        assert_exactly(due, one.store, one.lake)
        for name in ("lost", "somebody", "device"):
            state = one.store.visitor(name)
            assert state is not None and (state.counts, state.sequence) == ({}, []), name
        (item,) = one.store.items(["lost-item"])
        assert item is not None and (item.counts, item.neighbours) == ({}, {})
        # States go on from there.
        back = imported(events(5, first=900, seed=2, visitors=1), "g-")
        back = [event.model_copy(update={"user_id": "lost"}) for event in back]
        send(other.producer, back)
        one.settle()
        other.settle()
        assert_exactly([*due, *back], one.store, one.lake)
