"""A bundle as MLflow loads it: by MLmodel, and answering as the stages do."""

import json
from pathlib import Path
from typing import Any

import pytest

from slipstream.recommender.bundle import Bundle, load_bundle, save_bundle
from slipstream.recommender.stages import Event, recommend
from tests.unit.recommender.chain import item_name

pandas = pytest.importorskip("pandas", reason="no pandas: .venv/bin/pip install pandas")
pyfunc = pytest.importorskip("mlflow.pyfunc")

TYPES, TIMES = ["view", "cart"], [1_700_000_000_000, 1_700_000_060_000]
ITEMS = [item_name(4), item_name(5)]


@pytest.fixture(scope="module")
def folder(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "bundle"
    save_bundle(bundle, made)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return pyfunc.load_model(str(folder))


def test_lists_are_those_of_the_stages(model: Any, bundle: Bundle) -> None:
    frame = pandas.DataFrame(
        {
            "items": [ITEMS, [], [*ITEMS, "unknown"]],
            "event_types": [TYPES, [], [*TYPES, "view"]],
            "timestamps": [TIMES, [], [*TIMES, TIMES[-1]]],
        },
        index=["ada", "nobody", "bob"],
    )
    lists = model.predict(frame, params={"n": 7})
    history = [Event(*event) for event in zip(ITEMS, TYPES, TIMES, strict=True)]
    assert list(lists.index) == ["ada", "nobody", "bob"]
    for row, events in enumerate((history, [], history)):
        expected = recommend(bundle, events, 7)
        assert lists["items"].iloc[row] == [one.item_id for one in expected]
        assert lists["scores"].iloc[row] == pytest.approx([one.score for one in expected])
    assert len(lists["items"].iloc[0]) == 7


def test_types_and_times_may_be_missing(model: Any) -> None:
    lists = model.predict(pandas.DataFrame({"items": [ITEMS]}))
    assert len(lists["items"].iloc[0]) == 10
    assert not set(ITEMS) & set(lists["items"].iloc[0])


def test_only_the_newest_events_of_a_history_count(model: Any) -> None:
    long = pandas.DataFrame({"items": [[item_name(1)] * 500 + ITEMS * 50]})
    newest = pandas.DataFrame({"items": [ITEMS * 50]})
    items = model.predict(long)["items"].iloc[0]
    assert items == model.predict(newest)["items"].iloc[0]


@pytest.mark.parametrize("n", [0, -1, 1_001])
def test_a_length_out_of_range_is_refused(model: Any, n: int) -> None:
    with pytest.raises(ValueError, match="n must be 1 to 1000"):
        model.predict(pandas.DataFrame({"items": [ITEMS]}), params={"n": n})


def test_lists_of_a_row_must_be_of_one_length(model: Any) -> None:
    frame = pandas.DataFrame({"items": [ITEMS], "event_types": [["view"]]})
    with pytest.raises(ValueError, match="row 0: items, event_types and timestamps"):
        model.predict(frame)


def test_the_signature_names_columns_and_parameters(model: Any, bundle: Bundle) -> None:
    assert model.metadata.get_input_schema().input_names() == ["items", "event_types", "timestamps"]
    assert model.metadata.get_output_schema().input_names() == ["items", "scores"]
    assert model.metadata.get_params_schema().to_dict()[0]["default"] == 10
    assert model.metadata.metadata == {"version": bundle.version}


def test_what_mlflow_leaves_in_the_folder_spoils_nothing(folder: Path, bundle: Bundle) -> None:
    (folder / "registered_model_meta").write_text("model_name: recommender\n")
    assert load_bundle(folder).version == bundle.version
    assert (
        "registered_model_meta" not in json.loads((folder / "manifest.json").read_text())["files"]
    )
