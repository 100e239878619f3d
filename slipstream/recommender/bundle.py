"""Model bundle: everything that serving needs, as a directory of NumPy arrays and JSON.

    manifest.json                version, data, results, and size and SHA-256 of every other file
    recommender.json             event weights, blend, retrievers and their parameters
    item_ids.npy, item_ends.npy  the catalogue: UTF-8 bytes, and where each id ends
    item_index.<array>.npy       the number of each id (`stored_items`)
    attributes.<array>.npy       attributes of the items, where they have any
    <retriever>.<array>.npy      memory-mapped when loaded
    ranker.…, items.<array>.npy  where the bundle has a ranker
    baskets.<array>.npy          where the bundle knows items that go into one basket
    repurchases.<array>.npy      how long an item rests for its buyer; where types are known
    content_index.<array>.npy    items by content, for new ones; where the items have attributes
    MLmodel                      how MLflow loads the bundle

Loading imports neither scikit-learn nor torch nor SciPy, and never unpickles anything.
"""

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from slipstream.contracts.bundle import BUNDLE_SCHEMA_VERSION, FileEntry, Manifest
from slipstream.models.base import Arrays, EventWeights, Retriever
from slipstream.models.blend import Blend
from slipstream.models.content_index import ContentIndex
from slipstream.models.neighbours import ItemToItem
from slipstream.models.popularity import Popularity
from slipstream.models.ranker import Ranker
from slipstream.models.repurchases import Repurchases
from slipstream.models.sessions import Sessions
from slipstream.models.transformer import Transformer
from slipstream.recommender.plan import Plan
from slipstream.recommender.ranking_features import ItemTable, Ranking
from slipstream.recommender.stored_items import StoredAttributes, StoredIds, arrays_of, stored

_KINDS: dict[str, type[Retriever]] = {
    kind.kind: kind for kind in (ItemToItem, Popularity, Sessions, Transformer)
}

# Arrays of the item ids: the files of two, and those that are their index.
_IDS: Final = {"texts": "ids", "ends": "ends"}
_INDEX: Final = ("hashes", "order", "buckets")

# The file by which MLflow loads a bundle as a pyfunc model, and the module that it has load it.
_MLMODEL: Final = "MLmodel"
_LOADER: Final = "slipstream.recommender.pyfunc"
# MLflow leaves this file in a model's folder when it loads it from there.
_LEFT_BY_MLFLOW: Final = "registered_model_meta"
# Length of a list where a call by MLflow names none.
DEFAULT_N: Final = 10


class BundleError(ValueError):
    """The directory is not a bundle that this version can serve; the message names the file."""


@dataclass(frozen=True)
class Bundle:
    """A fitted recommender.

    Attributes:
        item_ids: Id of each item of the catalogue; item i of every array is `item_ids[i]`.
        retrievers: Retrievers by name, in the order of the blend's weights.
        repeats: Whether items of the history may be recommended again, unless a request asks
            otherwise.
        attributes: Attributes by item id; None where the bundle has none.
        baskets: Items that go into one basket with each item, apart from all recommendations; None
            where no carts or purchases were known.
        content: Items by content, for items that the bundle does not know; None where its items
            have no attributes.
        repurchases: How long items rest for their buyers; None where types of events are not known.
    """

    manifest: Manifest
    item_ids: Sequence[str]
    retrievers: Mapping[str, Retriever]
    blend: Blend
    ranking: Ranking | None = None
    event_weights: EventWeights = field(default_factory=EventWeights)
    repeats: bool = False
    attributes: Mapping[str, Mapping[str, Any]] | None = None
    baskets: ItemToItem | None = None
    content: ContentIndex | None = None
    repurchases: Repurchases | None = None

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Item id to its place in the catalogue."""
        if isinstance(self.item_ids, StoredIds):
            return self.item_ids.numbers
        return {item_id: place for place, item_id in enumerate(self.item_ids)}

    @cached_property
    def plan(self) -> Plan:
        """The bundle as kernels read it. Raises ValueError where arrays do not fit together."""
        ranker, items = None, None
        if self.ranking is not None:
            ranker, items = self.ranking.ranker, self.ranking.items
        return Plan(len(self.item_ids), list(self.retrievers.values()), self.blend, ranker, items)

    @cached_property
    def network(self) -> Transformer | None:
        """The first network among the retrievers, if there is one."""
        networks = (one for one in self.retrievers.values() if isinstance(one, Transformer))
        return next(networks, None)

    @property
    def version(self) -> str:
        return self.manifest.version


def save_bundle(bundle: Bundle, directory: str | Path) -> Manifest:
    """Writes the bundle and returns its manifest with the checksums filled in.

    The directory appears whole or not at all. Raises FileExistsError when it is already there: a
    bundle never changes.
    """
    directory = Path(directory)
    if directory.exists():
        raise FileExistsError(f"{directory} exists; a bundle is never overwritten")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        _write_files(bundle, temporary)
        entries = {path.name: _entry(path) for path in sorted(temporary.iterdir())}
        manifest = bundle.manifest.model_copy(update={"files": entries})
        (temporary / "manifest.json").write_text(manifest.model_dump_json(by_alias=True, indent=2))
        temporary.rename(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return manifest


def load_bundle(directory: str | Path) -> Bundle:
    """Reads a bundle, with its arrays memory-mapped read-only. Raises BundleError when a file is
    missing or was changed.
    """
    directory = Path(directory)
    manifest = _checked_manifest(directory)
    content = json.loads((directory / "recommender.json").read_text())
    retrievers: dict[str, Retriever] = {}
    for entry in content["retrievers"]:
        arrays = _arrays(directory, entry["name"], entry["arrays"])
        retrievers[entry["name"]] = _KINDS[entry["kind"]].restore(arrays, entry["parameters"])
    ranking = None
    if ranked := content.get("ranking"):
        ranker, items = (_arrays(directory, name, ranked[name]) for name in ("ranker", "items"))
        ranking = Ranking(Ranker.restore(ranker), ItemTable.restore(items), ranked["features"])
    baskets = None
    if basket := content.get("baskets"):
        arrays = _arrays(directory, "baskets", basket["arrays"])
        baskets = ItemToItem.restore(arrays, basket["parameters"])
    repurchases = None
    if learned := content.get("repurchases"):
        arrays = _arrays(directory, "repurchases", learned["arrays"])
        repurchases = Repurchases.restore(arrays, learned["parameters"])
    indexed = content.get("content_index")
    item_ids = _item_ids(directory)
    return Bundle(
        manifest=manifest,
        item_ids=item_ids,
        retrievers=retrievers,
        ranking=ranking,
        blend=Blend(
            *(np.array(content["blend"][name], np.float32) for name in ("weights", "floors"))
        ),
        event_weights=EventWeights(**content["event_weights"]),
        repeats=content["repeats"],
        attributes=_attributes(directory, item_ids.numbers),
        baskets=baskets,
        content=ContentIndex.restore(_arrays(directory, "content_index", indexed))
        if indexed
        else None,
        repurchases=repurchases,
    )


def _item_ids(directory: Path) -> StoredIds:
    arrays = {name: _array(directory / f"item_{file}.npy") for name, file in _IDS.items()}
    return StoredIds({**arrays, **_arrays(directory, "item_index", _INDEX)})


def _attributes(directory: Path, index: Mapping[str, int]) -> StoredAttributes | None:
    if not (directory / "attributes.ends.npy").exists():
        return None
    return StoredAttributes(index, **_arrays(directory, "attributes", ("texts", "ends")))


def _write_files(bundle: Bundle, directory: Path) -> None:
    content: dict[str, Any] = {
        "event_weights": asdict(bundle.event_weights),
        "repeats": bundle.repeats,
        "blend": {"weights": bundle.blend.weights.tolist(), "floors": bundle.blend.floors.tolist()},
        "retrievers": [
            {
                "name": name,
                "kind": retriever.kind,
                "parameters": retriever.parameters(),
                "arrays": sorted(retriever.arrays()),
            }
            for name, retriever in bundle.retrievers.items()
        ],
    }
    tables: dict[str, Arrays] = {
        name: retriever.arrays() for name, retriever in bundle.retrievers.items()
    }
    if bundle.ranking is not None:
        ranked = {"ranker": bundle.ranking.ranker.arrays(), "items": bundle.ranking.items.arrays()}
        content["ranking"] = {
            **{name: sorted(arrays) for name, arrays in ranked.items()},
            "features": list(bundle.ranking.features),
        }
        tables |= ranked
    for name, table in (("baskets", bundle.baskets), ("repurchases", bundle.repurchases)):
        if table is not None:
            tables[name] = table.arrays()
            content[name] = {"arrays": sorted(tables[name]), "parameters": table.parameters()}
    if bundle.content is not None:
        tables["content_index"] = bundle.content.arrays()
        content["content_index"] = sorted(tables["content_index"])
    (directory / "recommender.json").write_text(json.dumps(content, indent=2))
    (directory / _MLMODEL).write_text(_mlmodel(bundle.manifest))
    if bundle.attributes is not None:
        tables["attributes"] = stored(bundle.attributes, bundle.item_ids)
    item_ids = arrays_of(bundle.item_ids)
    for name, file in _IDS.items():
        np.save(directory / f"item_{file}.npy", item_ids[name])
    tables["item_index"] = {name: item_ids[name] for name in _INDEX}
    for name, arrays in tables.items():
        for array_name, array in arrays.items():
            np.save(
                directory / f"{name}.{array_name}.npy",
                np.ascontiguousarray(array),
                allow_pickle=False,
            )


def _column(name: str, of: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "type": "array", "items": {"type": of}, "required": required}


_INPUTS: Final = [
    _column("items", "string"),
    _column("event_types", "string", required=False),
    _column("timestamps", "long", required=False),
]
_OUTPUTS: Final = [_column("items", "string"), _column("scores", "double")]
_PARAMETERS: Final = [{"name": "n", "type": "long", "default": DEFAULT_N, "shape": None}]


def _mlmodel(manifest: Manifest) -> str:
    """The text of `MLmodel`: the loader, and the columns that go in and come out.

    It is JSON, which YAML, MLflow's format, contains.
    """
    created = datetime.fromtimestamp(manifest.created_at / 1000, UTC)
    content = {
        "flavors": {
            "python_function": {
                "loader_module": _LOADER,
                "python_version": platform.python_version(),
            }
        },
        "metadata": {"version": manifest.version},
        # Texts of JSON within, as MLflow writes them.
        "signature": {
            "inputs": json.dumps(_INPUTS),
            "outputs": json.dumps(_OUTPUTS),
            "params": json.dumps(_PARAMETERS),
        },
        "utc_time_created": created.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return json.dumps(content, indent=2)


def _checked_manifest(directory: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((directory / "manifest.json").read_text())
    except (OSError, ValidationError) as error:
        raise BundleError(f"{directory}: no readable manifest.json: {error}") from error
    if manifest.schema_version != BUNDLE_SCHEMA_VERSION:
        raise BundleError(
            f"{directory}: another version of Slipstream made this model (schema version "
            f"{manifest.schema_version}, not {BUNDLE_SCHEMA_VERSION}): begin with an empty folder "
            "of models, and train one"
        )
    for name, entry in manifest.files.items():
        path = directory / name
        if path.parent != directory or not path.is_file():
            raise BundleError(f"{directory}: {name} is missing")
        if _entry(path) != entry:
            raise BundleError(f"{directory}: {name} is not the file that the manifest describes")
    present = {path.name for path in directory.iterdir()}
    if unlisted := present - set(manifest.files) - {"manifest.json", _LEFT_BY_MLFLOW}:
        raise BundleError(f"{directory}: {', '.join(sorted(unlisted))} not in the manifest")
    return manifest


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(
            sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size
        )


def _arrays(directory: Path, owner: str, names: Sequence[str]) -> Arrays:
    return {name: _array(directory / f"{owner}.{name}.npy") for name in names}


def _array(path: Path) -> np.ndarray[Any, Any]:
    """The array of a file, memory-mapped; an empty array, which cannot be mapped, is read.

    It is a plain view, since slicing `np.memmap` costs 10 µs more.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)  # type: ignore[no-any-return]
    except ValueError:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
