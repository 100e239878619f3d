"""Receipts of erasures are complete when the data is gone from every place, and not before."""

from services.monitoring.erasures.receipts import receipt
from services.monitoring.settings import MonitoringSection
from slipstream.contracts.rest import ErasureState, ModelVersion
from slipstream.contracts.times import DAY_MS

SETTINGS = MonitoringSection()
ERASED = 1_790_000_000_000
LATER = ERASED + 30 * DAY_MS
DONE = ErasureState(
    erasure_id="e", erased_at=ERASED, rows={"interactions": 3}, lake_version=7, files_left=0
)


def model(version: str, lake_version: int | None) -> ModelVersion:
    return ModelVersion(version=version, created_at=1, lake_version=lake_version)


def waiting(state: ErasureState, models: list[ModelVersion] | None, now_ms: int) -> set[str]:
    """The places that a receipt waits for."""
    made = receipt(state, models, SETTINGS, now_ms)
    left = {place.place for place in made.places if not place.done}
    assert made.complete == (not left)
    return left


def test_it_is_complete_when_every_place_is() -> None:
    assert waiting(DONE, [model("2", 7), model("3", 9)], LATER) == set()


def test_each_place_is_waited_for() -> None:
    fresh = [model("2", 7)]
    files = DONE.model_copy(update={"files_left": 2})
    letters = DONE.model_copy(update={"topics_left": ["dead-letters.v1"]})
    topics = DONE.model_copy(update={"topics_left": ["people.v1", "interactions.v1"]})
    assert waiting(files, fresh, LATER) == {"lake files"}
    assert waiting(letters, fresh, LATER) == {"dead letters"}
    assert waiting(topics, fresh, LATER) == {"topics"}
    assert waiting(DONE, [*fresh, model("1", 6)], LATER) == {"models"}
    assert waiting(DONE, [*fresh, model("1", None)], LATER) == {"models"}
    assert waiting(DONE, None, LATER) == {"models"}
    assert waiting(DONE, fresh, ERASED + DAY_MS + 1) == {"monitoring"}
    assert waiting(DONE, fresh, ERASED) == {"monitoring", "caches"}


def test_nothing_is_done_while_the_request_waits() -> None:
    made = receipt(ErasureState(erasure_id="e"), [], SETTINGS, LATER)
    assert not any(place.done for place in made.places) and len(made.places) == 8
