"""What an import finds of its events in the lake."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.datasets.imports.surveys import Survey
from slipstream.stores.lake import INTERACTIONS, Lake
from slipstream_cli import ledger
from tests.unit.stores.lake_rows import rows

AT = 1_790_000_000_000


@pytest.fixture
def exports(tmp_path: Path) -> list[Any]:
    lake = Lake(LakeSettings(uri=str(tmp_path / "lake")), "slipstream")
    source = Source("interactions.v1", "topic-1", 3)
    lake.append(INTERACTIONS, rows("old", timestamp=AT), {source: 1})
    lake.append(INTERACTIONS, rows("other", timestamp=AT + 9_000), {source: 2})
    return [(None, Survey(first=AT, last=AT + 5)), (None, Survey())]


def test_events_in_the_lake_are_found_by_their_time(
    tmp_path: Path, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ledger.events_in_lake(exports, {"redis": ""}, tmp_path) == {hash("old")}
    monkeypatch.setattr(ledger, "MOST_ROWS", 0)
    assert ledger.events_in_lake(exports, {"redis": ""}, tmp_path) is None


def test_a_stack_elsewhere_has_a_lake_elsewhere(
    tmp_path: Path, exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPSTREAM_LAKE__URI", raising=False)
    assert ledger.events_in_lake(exports, {}, tmp_path) is None
    monkeypatch.setenv("SLIPSTREAM_LAKE__URI", str(tmp_path / "lake"))
    assert ledger.events_in_lake(exports, {}, tmp_path) == {hash("old")}
