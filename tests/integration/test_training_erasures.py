"""The training service after an erasure: what was learned before is replaced, and leaves the disk.

Broker, SQLite, MLflow, lake and runs are real.
"""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from slipstream.contracts.times import HOUR_MS, now_ms
from slipstream.stores.lake import ERASURES, INTERACTIONS, SCHEMAS, Lake
from tests.integration.test_training import model_events
from tests.integration.training_service import Settings, ended, running
from tests.unit.training.histories import chain, write
from tests.waiting import until


@pytest.mark.timeout(600)
@pytest.mark.servers("real")  # it waits for most of a minute, for a run to end in time
def test_models_from_before_an_erasure_are_replaced_and_deleted_within_the_time(
    make_settings: Settings, tmp_path: Path, mlflow_template: Path
) -> None:
    settings = make_settings()
    lake = Lake(settings.lake, settings.namespace)
    write(lake, chain())
    with running(settings) as client:
        began = time.monotonic()
        first = ended(client, client.post("/v1/runs", json={}).json()["run_id"])
        took_s = time.monotonic() - began
        assert first["decision"] == "promoted", first
        old = first["model_version"]
    # A successor is looked for in the second half of the time; the machine may be busy.
    half_s = max(40.0, 5 * took_s)
    settings = make_settings(erasure_hours=2 * half_s / 3_600, check_seconds=0.2)
    with running(settings) as client:
        rows = {
            "erasure_id": "e1",
            "erased_at": now_ms() - int(1_000 * half_s) + 3_000,
            "rows": "{}",
            "version": (lake.version(INTERACTIONS) or 0) + 1,
        }
        write(lake, chain())  # stands for the version without the rows
        lake.append(ERASURES, pa.Table.from_pylist([rows], SCHEMAS[ERASURES]), {})
        asked = {"lake_version": rows["version"], "erased_at": rows["erased_at"]}

        def before() -> dict[str, object]:
            answer: dict[str, object] = client.get("/v1/models:before-erasure", params=asked).json()
            return answer

        deleted_by = rows["erased_at"] + int(2 * half_s / 3_600 * HOUR_MS)  # type: ignore[operator]
        assert before() == {"versions": [old], "runs": [], "deleted_by": deleted_by}
        until(lambda: before()["versions"] == [], f"it stays: {before()}", half_s + 20)
        second = client.get("/v1/runs").json()["items"][0]
        assert (second["trigger"], second["decision"]) == ("erasure", "refused"), second
        champion = client.get("/v1/aliases/champion").json()
        assert champion["version"] == second["model_version"], "its successor, surely better or not"
        gone = client.get(f"/v1/models/{old}")
        assert (gone.status_code, gone.json()["code"]) == (410, "deleted")
        assert client.get(f"/v1/models/{old}/files/manifest.json").status_code == 404
        assert client.get(f"/v1/runs/{old}/report").status_code == 404
        events = [(event, version) for event, version, _ in model_events(settings, 6)]
        assert events[-2:] == [("promoted", second["model_version"]), ("deleted", old)]
    folders = (tmp_path / "models", mlflow_template.parent)
    names = [
        path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()
    ]
    assert any(second["model_version"].encode() in content for content in names)
    assert not any(f'"version":"{old}"'.encode() in content for content in names)
    assert not any(f"Training run {old}".encode() in content for content in names)
