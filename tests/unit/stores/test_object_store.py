from pathlib import Path

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
