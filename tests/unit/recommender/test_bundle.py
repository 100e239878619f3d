import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from slipstream.models.base import EventWeights
from slipstream.recommender import encoding
from slipstream.recommender.bundle import Bundle, BundleError, load_bundle, save_bundle
from slipstream.recommender.fit import fit
from slipstream.recommender.refit import refit
from slipstream.recommender.stages import Event, bought_together, recommend, similar_items
from tests.unit.recommender.chain import chain_interactions, item_name
from tests.unit.recommender.small_models import small_bundle

HISTORY = [
    Event(item_name(4), "view", 1_700_000_000_000),
    Event(item_name(5), "cart", 1_700_000_060_000),
]


@pytest.fixture
def saved(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_loaded_bundle_answers_as_the_saved_one(bundle: Bundle, saved: Path) -> None:
    loaded = load_bundle(saved)
    assert recommend(loaded, HISTORY, 20) == recommend(bundle, HISTORY, 20)
    assert similar_items(loaded, "item-12", 5) == similar_items(bundle, "item-12", 5)
    assert list(loaded.item_ids) == bundle.item_ids
    assert dict(loaded.index) == bundle.index
    assert loaded.attributes == bundle.attributes
    assert loaded.event_weights == bundle.event_weights
    assert loaded.manifest.data == bundle.manifest.data
    assert loaded.repurchases is not None and bundle.repurchases is not None
    assert loaded.repurchases.parameters() == bundle.repurchases.parameters()
    assert loaded.repurchases.pause.tolist() == bundle.repurchases.pause.tolist()


def test_companions_are_of_the_carts_that_a_bundle_was_fitted_on_last(tmp_path: Path) -> None:
    table = chain_interactions(visitors=60)
    carts = table.set_column(2, "event_type", pa.array(["cart"] * len(table)))
    bundle = fit(carts)
    first, second = item_name(4), item_name(5)
    on_the_way = {item_name(place) for place in range(8)} - {first}
    assert bought_together(bundle, [first])[0][0] in on_the_way
    assert {second, first}.isdisjoint(dict(bought_together(bundle, [first, second, "unknown"])))
    save_bundle(bundle, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert bought_together(loaded, [first]) == bought_together(bundle, [first]) != []
    viewed = refit(
        loaded, encoding.encode(table, loaded.item_ids, EventWeights()), loaded.item_ids, {}
    )
    assert bought_together(viewed, [first]) == []


def test_loaded_bundle_finds_the_items_that_a_new_one_is_like(bundle: Bundle, saved: Path) -> None:
    content = load_bundle(saved).content
    assert content is not None and bundle.content is not None
    mauve = {"title": "mauve cap", "colour": "mauve"}
    found = content.neighbours(mauve, 9)
    # Without new-mauve, which has no visitors.
    assert {bundle.item_ids[item] for item in found.items.tolist()} == {item_name(0), item_name(1)}
    assert found.items.tolist() == bundle.content.neighbours(mauve, 9).items.tolist()


def test_bundle_without_content_and_repurchases_is_loaded_without_them(
    bundle: Bundle, tmp_path: Path
) -> None:
    save_bundle(replace(bundle, content=None, repurchases=None), tmp_path / "bundle")
    content = json.loads((tmp_path / "bundle" / "recommender.json").read_text())
    assert "content_index" not in content and "repurchases" not in content
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.content is None and loaded.repurchases is None


def test_arrays_are_memory_mapped_and_read_only(saved: Path) -> None:
    data = load_bundle(saved).retrievers["ease"].arrays()["data"]
    assert isinstance(data.base, np.memmap) or isinstance(data, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_directory_holds_only_arrays_and_json_and_no_temporary_is_left(saved: Path) -> None:
    assert {path.suffix or path.name for path in saved.iterdir()} == {".npy", ".json", "MLmodel"}
    assert [path.name for path in saved.parent.iterdir()] == ["bundle"]
    manifest = json.loads((saved / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in saved.iterdir()} - {"manifest.json"}
    assert manifest["data"]["from"] == 1_700_000_000_000


def test_features_of_the_ranker_keep_their_names(tmp_path: Path) -> None:
    bundle = small_bundle()
    assert bundle.ranking is not None
    names = [f"feature {place}" for place in range(len(bundle.ranking.ranker.mean))]
    named = replace(bundle, ranking=replace(bundle.ranking, features=names))
    save_bundle(named, tmp_path / "bundle")
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.ranking is not None and loaded.ranking.features == names


def test_a_bundle_is_never_overwritten(bundle: Bundle, saved: Path) -> None:
    with pytest.raises(FileExistsError):
        save_bundle(bundle, saved)


def test_a_failed_save_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    broken = Bundle(bundle.manifest, [*bundle.item_ids, "\ud800"], bundle.retrievers, bundle.blend)
    with pytest.raises(UnicodeEncodeError):
        save_bundle(broken, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_a_changed_file(saved: Path) -> None:
    file = saved / "ease.data.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"ease\.data\.npy"):
        load_bundle(saved)


def test_load_refuses_a_missing_file(saved: Path) -> None:
    (saved / "rules.indptr.npy").unlink()
    with pytest.raises(BundleError, match="missing"):
        load_bundle(saved)


def test_load_refuses_a_file_that_the_manifest_does_not_name(saved: Path) -> None:
    (saved / "attributes2.json").write_text("{}")
    with pytest.raises(BundleError, match="not in the manifest"):
        load_bundle(saved)


def test_load_refuses_a_file_outside_the_directory(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["files"]["../other.json"] = {"sha256": "0", "bytes": 0}
    (saved.parent / "other.json").write_text("")
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="missing"):
        load_bundle(saved)


@pytest.mark.parametrize("version", [1, 2, 99])
def test_load_refuses_another_schema_version(saved: Path, version: int) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))
    with pytest.raises(BundleError, match=f"schema version {version}, not 3.*an empty folder"):
        load_bundle(saved)


def test_load_refuses_a_directory_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(tmp_path)


def test_loading_and_scoring_need_no_learning_library(saved: Path) -> None:
    program = f"""
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("sklearn", "torch", "scipy", "mlflow"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocked())
from slipstream.recommender.bundle import load_bundle
from slipstream.recommender.stages import Event, recommend
history = [Event({item_name(4)!r}), Event({item_name(5)!r})]
bundle = load_bundle({str(saved)!r})
print(recommend(bundle, history, 1)[0].item_id)
print(len(bundle.content.neighbours({{"colour": "mauve"}}, 9).items))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [item_name(6), "2"]
