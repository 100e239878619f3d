"""Each visitor once in a window, of so many at most, and none lost with a batch that failed."""

from services.monitoring.item_attributes import ItemCatalogue, place_of
from services.monitoring.sampling import Sample, Sampler
from slipstream.contracts.events import CatalogRecord, Interaction
from slipstream.contracts.slates import RecordedSlate
from tests.unit.monitoring.builders import T0
from tests.unit.monitoring.recorded_slates import history_of, made_of

HOUR_MS = 3_600_000
START = T0 - T0 % HOUR_MS


def sampler(most: int = 1_000, *lengths: int) -> Sampler:
    return Sampler(lengths or (HOUR_MS,), most, ItemCatalogue())


def slates(visitors: int, hour: int = 0, first: int = 0) -> list[RecordedSlate]:
    at = START + hour * HOUR_MS
    return [made_of(f"{hour}-{n}", at + n, user=f"u{n}") for n in range(first, first + visitors)]


def stored(taking: Sampler, records: list[RecordedSlate]) -> list[Sample]:
    samples = taking.take(records)
    taking.keep(samples)
    return samples


def test_a_visitor_counts_once_in_a_window_however_many_slates() -> None:
    taking = sampler()
    crawler = [made_of(f"c{n}", START + n, user="crawler") for n in range(200)]
    samples = stored(taking, [*crawler, *slates(3)])
    assert [each.visitor for each in samples] == ["crawler", "u0", "u1", "u2"]
    assert stored(taking, crawler) == []
    assert len(stored(taking, slates(3, hour=1))) == 3


def test_windows_of_several_lengths_have_a_sample_each() -> None:
    samples = stored(sampler(1_000, HOUR_MS, 6 * HOUR_MS), slates(1))
    assert [(each.length_ms, each.start) for each in samples] == [
        (HOUR_MS, START),
        (6 * HOUR_MS, START - START % (6 * HOUR_MS)),
    ]


def test_a_batch_that_was_not_stored_is_sampled_again() -> None:
    taking = sampler()
    assert len(taking.take(slates(5))) == 5
    assert len(taking.take(slates(5))) == 5


def test_slates_of_a_partition_far_behind_are_sampled_with_those_of_open_windows() -> None:
    taking = sampler()
    for hour in range(1, 13):
        stored(taking, slates(2, hour=hour))
    late = stored(taking, [*slates(2, hour=12), *slates(2), *slates(2, hour=1)])
    assert [each.start for each in late] == [START, START, START + HOUR_MS, START + HOUR_MS]
    assert stored(taking, slates(2, hour=12)) == []


def test_of_many_visitors_a_share_is_taken_from_the_whole_window() -> None:
    taking = sampler(200)
    samples = [
        sample
        for first in range(0, 2_000, 50)
        for sample in stored(taking, slates(50, first=first))
    ]
    share = samples[-1].share
    assert share < 0.2
    kept = [each for each in samples if place_of(each.visitor) < share]
    assert 80 <= len(kept) <= 200
    early = sum(int(each.visitor[1:]) < 1_000 for each in kept)
    assert 0.35 < early / len(kept) < 0.65
    # The next window begins with a share that fits.
    following = [
        sample
        for first in range(0, 2_000, 50)
        for sample in stored(taking, slates(50, hour=1, first=first))
    ]
    assert min(each.share for each in following[50:]) >= share / 2
    assert 80 <= len(following) <= 200


def test_the_newest_event_of_a_visitor_is_compared_with_the_history() -> None:
    taking = sampler()
    event = Interaction(
        event_id="e",
        event_type="view",
        user_id="u0",
        item_id="b",
        timestamp=START,
        received_at=START,
    )
    later = START + 300_000
    (sample,) = taking.take([event, made_of("s", later, history_of("xy", later), user="u0")])
    assert '"newest_event":{"lacking":1.0}' in sample.body
    imported = event.model_copy(update={"imported": True, "user_id": "u1"})
    (sample,) = taking.take([imported, made_of("t", later, history_of("xy", later), user="u1")])
    assert "newest_event" not in sample.body


def test_only_slates_that_were_shown_are_sampled() -> None:
    assert sampler().take([made_of("s", START, purpose="batch")]) == []


def test_the_catalogue_counts_once_it_is_known() -> None:
    catalogue = ItemCatalogue()
    catalogue.caught_up = True
    taking = Sampler((HOUR_MS,), 100, catalogue)
    slate = made_of("s", START, history_of("a", START))
    assert "catalogue_items" not in taking.take([slate])[0].body
    catalogue.take([CatalogRecord(entity="item", entity_id="b", timestamp=1)])
    assert "catalogue_items" in taking.take([slate])[0].body
    taking.expect(100)
    assert "catalogue_items" not in taking.take([slate])[0].body
