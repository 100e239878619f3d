"""What a model or a run may know of the erased."""

import pyarrow as pa
import pytest

from services.training.lake_erasures import Erasures, Reading, is_from_before
from slipstream.contracts.bundle import DataSummary, Manifest
from slipstream.contracts.rest import Run
from slipstream.stores.lake import ERASURES, SCHEMAS, Lake

ERASED = 1_000


def erase(lake: Lake, version: int | None, erased_at: int) -> None:
    """Write the row of an erasure, as features does."""
    row = {"erasure_id": f"e{version}", "erased_at": erased_at, "rows": "{}", "version": version}
    lake.append(ERASURES, pa.Table.from_pylist([row], SCHEMAS[ERASURES]), {})


def manifest(lake_version: int | None, created_at: int = 2_000, **fields: object) -> Manifest:
    data = DataSummary(visitors=1, items=1, events=1)
    return Manifest.model_validate(
        {
            "version": "a",
            "created_at": created_at,
            "profile": "fast",
            "data": data,
            "lake_version": lake_version,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("model", "before"),
    [
        pytest.param(manifest(7), False, id="fitted on the lake without the rows"),
        pytest.param(manifest(6), True, id="fitted on the lake with them"),
        pytest.param(manifest(None), True, id="fitted on who knows what"),
        pytest.param(manifest(900, 500), True, id="fitted on a lake that was lost since"),
        pytest.param(manifest(9, oldest_lake_version=6), True, id="an old network trained further"),
        pytest.param(manifest(9, oldest_lake_version=7), False, id="a newer one trained further"),
    ],
)
def test_a_model_is_from_before_where_any_of_it_may_be(model: Manifest, before: bool) -> None:
    assert is_from_before(model, 7, ERASED) == before


@pytest.mark.parametrize(
    ("lake_version", "started_at", "before"),
    [
        pytest.param(6, 1, True, id="has read the rows"),
        pytest.param(7, 1, False, id="has read the lake without them"),
        pytest.param(6, None, True, id="takes up a killed run that has read them"),
        pytest.param(None, 999, True, id="may be reading them"),
        pytest.param(None, 1_001, False, id="began later"),
        pytest.param(None, None, False, id="will read the lake without them"),
    ],
)
def test_a_run_is_from_before_where_it_may_have_read_the_rows(
    lake_version: int | None, started_at: int | None, before: bool
) -> None:
    run = Run(
        run_id="r",
        state="running",
        trigger="schedule",
        created_at=1,
        started_at=started_at,
        lake_version=lake_version,
    )
    assert is_from_before(Reading.of(run), 7, ERASED) == before


def test_the_first_erasure_counts_and_new_ones_are_seen(lake: Lake) -> None:
    erasures = Erasures(lake)
    assert not erasures.exist() and erasures.first_after(manifest(None)) is None
    erase(lake, None, ERASED)
    assert erasures.exist() and erasures.first_after(manifest(0)) is None
    for version, at in ((9, ERASED + 90), (7, ERASED + 70), (8, ERASED + 80)):
        erase(lake, version, at)
    assert [erasures.first_after(manifest(version)) for version in (6, 7, 8, 9)] == [
        ERASED + 70, ERASED + 80, ERASED + 90, None,
    ]  # fmt: skip
