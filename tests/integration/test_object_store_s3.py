"""An object store on S3."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.stores.object_store import ObjectStore
from tests.buckets import needs_moto, s3_server
from tests.unit.stores.object_stores import check_files


@needs_moto
def test_files_of_a_bucket_are_written_listed_fetched_and_deleted(tmp_path: Path) -> None:
    with s3_server("models") as options:
        check_files(ObjectStore("s3://models/exchange", options), tmp_path)


class ReplacedFiles:
    """Arrow's files, which are replaced by the next content once they are open."""

    def __init__(self, store: ObjectStore, contents: list[bytes]) -> None:
        self._files, self._contents = store._files, contents
        self._other = ObjectStore(store.uri, store._options)

    def open_input_file(self, path: str) -> Any:
        file = self._files.open_input_file(path)
        if self._contents:
            self._other.write(path.rpartition("/")[2], self._contents.pop(0))
        return file

    def get_file_info(self, path: str) -> Any:
        return self._files.get_file_info(path)


@needs_moto
def test_an_object_that_is_replaced_while_it_is_read_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with s3_server("models") as options:
        store = ObjectStore("s3://models/exchange", options)
        store.write("a", b"x" * 3_000)
        files = ReplacedFiles(store, [b"short", b"a little longer"])
        monkeypatch.setattr(store, "_files", files)
        assert store.read("a") == b"a little longer"
