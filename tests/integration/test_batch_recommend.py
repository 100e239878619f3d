"""`slipstream batch-recommend` on a lake, with the champion of a training service over HTTP."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from services.features.history.lake_snapshot import LakeSnapshot
from services.features.history.people import erase_waiting
from services.features.settings import FeaturesSettings
from slipstream.chassis.settings import LakeSettings, RedisSettings
from slipstream.contracts.events import CatalogRecord
from slipstream.recommender import stages
from slipstream.recommender.fit import FitOptions, fit
from slipstream_cli import batch as batch_histories
from slipstream_cli.__main__ import cli
from slipstream_cli.batch import events_of_lake, histories
from tests.integration.backfill_shop import Shop
from tests.integration.test_serving import running
from tests.unit.serving.state.training_stub import TrainingStub


def test_every_visitor_of_the_lake_gets_the_list_that_serving_would_answer(
    redis_settings: RedisSettings,
    lake_settings: LakeSettings,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = FeaturesSettings(redis=redis_settings, lake=lake_settings, namespace=namespace)
    shop = Shop(settings)
    events = shop.events(700)
    shop.take([*events, *shop.events(150, "anonymous"), *shop.events(5, "ada")])
    link = {"entity": "identity", "entity_id": "anonymous", "attributes": {"user_id": "ada"}}
    last = max(event.timestamp for _, _, event in events)
    entries = (
        link,
        {"entity": "user", "entity_id": "u0", "deleted": True},
        {"entity": "item", "entity_id": "i3", "available": False},
    )
    shop.take_entries(*(CatalogRecord.model_validate(e | {"timestamp": last}) for e in entries))
    rows = [(e.user_id, e.item_id, e.event_type, e.timestamp) for _, _, e in events if e.item_id]
    names = ("user_id", "item_id", "event_type", "timestamp")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    bundle = fit(table, options=FitOptions(version="one", repeats=False))
    erase_waiting(shop.lake)

    monkeypatch.setattr(batch_histories, "BUCKET_ROWS", 200)
    found = {
        each.user_id: each
        for part in events_of_lake(LakeSnapshot(shop.lake, ()), tmp_path)
        for each in histories(bundle, part)
    }
    assert found.keys() == {*(f"u{number}" for number in range(1, 30)), "ada"}
    for user_id, each in found.items():
        state = shop.store.visitor(user_id)
        assert state is not None
        due = stages.list_question(bundle, state.sequence)
        for column, wanted in zip(each.history, due.history, strict=True):
            np.testing.assert_array_equal(column, wanted)

    stub = TrainingStub(tmp_path / "training")
    stub.publish(bundle, "4")
    out = tmp_path / "lists.parquet"
    monkeypatch.setenv("SLIPSTREAM_NAMESPACE", namespace)
    with running(stub.app()) as url:
        words = ["batch-recommend", "--out", str(out), "--n", "3", "--url", url]
        made = CliRunner().invoke(cli, [*words, "--data-dir", str(tmp_path)])
    assert made.exit_code == 0, made.output
    lists = pq.read_table(out).to_pylist()
    assert {row["model_version"] for row in lists} == {"4"}
    state = shop.store.visitor("ada")
    assert state is not None
    gone = np.array([item_id != "i3" for item_id in bundle.item_ids])
    due_items = stages.recommend(bundle, state.sequence, 3, allowed=gone)
    assert [row["item_id"] for row in lists if row["user_id"] == "ada"] == [
        each.item_id for each in due_items
    ]
    assert "i3" not in {row["item_id"] for row in lists}
