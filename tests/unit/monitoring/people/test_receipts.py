"""Receipts of erasures are complete when the data is gone from every place, and not before."""

import pytest

from services.monitoring.people.receipts import PLACES, receipt
from services.monitoring.people.repository import ErasureEntry
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.rest import ErasureState, ModelsBeforeErasure
from slipstream.contracts.times import DAY_MS, HOUR_MS

SETTINGS = MonitoringSection()
ERASED = 1_790_000_000_000
LATER = ERASED + 31 * DAY_MS
DONE = ErasureState(
    erasure_id="e",
    erased_at=ERASED,
    rows={"interactions": 3},
    lake_version=7,
    files_left=0,
    redis_written_at=ERASED + 5,
)
ENTRY = ErasureEntry("e", ERASED - 9, 4, ERASED + 7, ERASED + 8, "SQLite has overwritten them")


def before(*versions: str, runs: tuple[str, ...] = ()) -> ModelsBeforeErasure:
    """What training has from before the erasure."""
    return ModelsBeforeErasure(versions=[*versions], runs=[*runs], deleted_by=ERASED + 21 * DAY_MS)


def waiting(
    state: ErasureState = DONE,
    models: ModelsBeforeErasure | None = None,
    now_ms: int = LATER,
    entry: ErasureEntry | None = ENTRY,
    asked: bool = True,
) -> set[str]:
    """The places that a receipt waits for."""
    known = (models or before()) if asked else None
    made = receipt("e", state, entry, known, SETTINGS, now_ms)
    left = {place.place for place in made.places if not place.done}
    assert [place.place for place in made.places] == list(PLACES)
    assert made.complete == (not left) == (made.state == "complete")
    assert not any(place.detail for place in made.places if place.done and place.place == "topics")
    return left


def test_it_is_complete_when_every_place_is() -> None:
    assert waiting(models=before()) == set()


def test_each_place_is_waited_for() -> None:
    def but(**changed: object) -> ErasureState:
        return DONE.model_copy(update=changed)

    assert waiting(but(files_left=2)) == {"lake files"}
    assert waiting(but(redis_written_at=None)) == {"redis files"}
    assert waiting(but(redis_written_at=ERASED - 1)) == {"redis files"}
    assert waiting(but(topics_left=["people.v1", "interactions.v1"])) == {"topics"}
    assert waiting(but(topics_left=["dead-letters.v1"])) == {"dead letters"}
    assert waiting(models=before("1")) == {"models"}
    assert waiting(models=before(runs=("2",))) == {"models"}
    assert waiting(asked=False) == {"models"}
    assert waiting(now_ms=ERASED) == {"caches", "late records", "logs"}
    uncached = ERASED + int(SETTINGS.erasure_caches_h * HOUR_MS)
    assert waiting(now_ms=uncached - 1) == {"caches", "late records", "logs"}
    assert waiting(now_ms=uncached) == {"late records", "logs"}
    assert waiting(now_ms=ERASED + 30 * DAY_MS - 1) == {"late records", "logs"}
    assert waiting(entry=None) == {"monitoring"}
    assert waiting(entry=ENTRY._replace(deleted_at=None)) == {"monitoring"}
    assert waiting(entry=ENTRY._replace(overwritten_at=None)) == {"monitoring"}


@pytest.mark.parametrize(("after_ms", "told"), [(-1, None), (0, ERASED), (5, ERASED + 5)])
def test_a_moment_is_told_for_redis_files_that_were_rewritten_since(
    after_ms: int, told: int | None
) -> None:
    state = DONE.model_copy(update={"redis_written_at": ERASED + after_ms})
    (files,) = (
        place
        for place in receipt("e", state, ENTRY, before(), SETTINGS, LATER).places
        if place.place == "redis files"
    )
    assert (files.done, files.at) == (told is not None, told)


def test_it_says_what_was_deleted_and_until_when_topics_and_models_keep_the_rest() -> None:
    state = DONE.model_copy(update={"topics_left": ["people.v1", "dead-letters.v1"]})
    made = receipt("e", state, ENTRY, before("1", runs=("2",)), SETTINGS, LATER)
    places = {place.place: place for place in made.places}
    assert (made.state, made.asked_at) == ("erased", ERASED - 9)
    assert places["lake"].detail == "rows deleted: 3 of interactions"
    assert places["monitoring"].detail == "rows deleted: 4. SQLite has overwritten them"
    assert places["topics"].detail == "by retention: people.v1 until 2026-10-21 14:19 UTC"
    assert places["models"].detail == (
        "learned from the lake before the erasure: 1, the run under way 2; "
        "deleted by 2026-10-12 14:13 UTC"
    )
    assert places["models"].at == ERASED + 21 * DAY_MS
    assert places["topics"].at == ERASED + 30 * DAY_MS + 360_000
    (logs,) = (
        place
        for place in receipt("e", state, ENTRY, before(), SETTINGS, ERASED).places
        if place.place == "logs"
    )
    assert logs.at == ERASED + 30 * DAY_MS
    assert logs.detail == "lines about faults, by retention: until 2026-10-21 14:13 UTC"


def test_nothing_is_done_while_the_request_waits() -> None:
    for state, word in ((None, "requested"), (ErasureState(erasure_id="e"), "waits")):
        made = receipt("e", state, None, before(), SETTINGS, LATER)
        assert made.state == word and not made.complete
        assert [place.place for place in made.places if not place.done] == list(PLACES)
