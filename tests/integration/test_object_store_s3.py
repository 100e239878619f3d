"""An object store on S3."""

from pathlib import Path

from slipstream.stores.object_store import ObjectStore
from tests.buckets import needs_moto, s3_server
from tests.unit.stores.object_stores import check_files


@needs_moto
def test_files_of_a_bucket_are_written_listed_fetched_and_deleted(tmp_path: Path) -> None:
    with s3_server("models") as options:
        check_files(ObjectStore("s3://models/exchange", options), tmp_path)
