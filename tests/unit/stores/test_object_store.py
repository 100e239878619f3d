from pathlib import Path
from typing import Any

import pytest

from slipstream.stores.object_store import ObjectStore, ObjectStoreUnavailableError
from tests.unit.stores.object_stores import check_files


def test_files_of_a_folder_are_written_listed_fetched_and_deleted(tmp_path: Path) -> None:
    check_files(ObjectStore(str(tmp_path / "made" / "later")), tmp_path)


def test_half_a_file_is_no_file(tmp_path: Path) -> None:
    store = ObjectStore(str(tmp_path))
    store.write("a", b"whole")
    with pytest.raises(RuntimeError), store._opened("a") as stream:
        stream.write(b"ha")
        raise RuntimeError
    assert (store.names(), store.read("a")) == (["a"], b"whole")


class ReplacingFiles:
    """Arrow's files, of which each look at a size finds the next content."""

    def __init__(self, store: ObjectStore, contents: list[bytes]) -> None:
        self._files, self._contents = store._files, contents

    def open_input_file(self, path: str) -> Any:
        return self._files.open_input_file(path)

    def get_file_info(self, path: str) -> Any:
        if self._contents:
            Path(path).write_bytes(self._contents.pop(0))
        return self._files.get_file_info(path)


def test_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore(str(tmp_path))
    store.write("a", b"a longer one")
    monkeypatch.setattr(store, "_files", ReplacingFiles(store, [b"shorter", b"last"]))
    assert store.read("a") == b"last"
    changes = [b"x" * size for size in range(9)]
    monkeypatch.setattr(store, "_files", ReplacingFiles(store, changes))
    with pytest.raises(ObjectStoreUnavailableError, match="changes whenever it is read"):
        store.read("a")


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://"])
def test_place_of_an_unknown_kind_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="neither a folder nor s3://"):
        ObjectStore(uri)


def test_folder_that_can_not_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = ObjectStore(str(tmp_path / "file"))
    with pytest.raises(ObjectStoreUnavailableError, match="file/a: "):
        store.write("a", b"")


def test_bucket_that_does_not_answer_is_unavailable() -> None:
    options = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    with pytest.raises(ObjectStoreUnavailableError, match="s3://bucket/prefix/a: "):
        ObjectStore("s3://bucket/prefix", options).read("a")
