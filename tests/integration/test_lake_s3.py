"""The lake on object storage: moto's S3 server, where installed (pip install 'moto[server]')."""

import gzip
import threading
from collections.abc import Iterator

import httpx
import pytest

from slipstream.chassis.settings import LakeSettings
from slipstream.contracts.positions import Source
from slipstream.datasets.imports.sources import find_files
from slipstream.datasets.imports.surveys import open_export
from slipstream.datasets.imports.understanding import Choices
from slipstream.stores.lake import INTERACTIONS, Lake, LakeConflictError
from slipstream.stores.row_erasure import RowErasure
from tests.buckets import needs_moto, running_bucket
from tests.unit.stores.lake_rows import rows

# Its server is moto's, whatever the others are.
pytestmark = [needs_moto, pytest.mark.servers("embedded")]
SOURCE = Source("interactions.v1", "topic-1", 0)


@pytest.fixture(scope="module")
def bucket() -> Iterator[LakeSettings]:
    """A bucket that all tests share; each has a lake of its own there, by its namespace."""
    with running_bucket() as settings:
        yield settings


def test_a_lake_in_a_bucket_is_written_read_compacted_erased_and_vacuumed(
    bucket: LakeSettings,
) -> None:
    lake = Lake(bucket, "shop")
    first = lake.append(INTERACTIONS, rows("a", user_id="ada"), {SOURCE: 0})
    lake.append(INTERACTIONS, rows("b", user_id="bob"), {SOURCE: 1})
    assert Lake(bucket, "shop").applied_offsets(INTERACTIONS, [SOURCE])[SOURCE] == 1
    assert lake.compact(INTERACTIONS, 2) == 1
    assert lake.read(INTERACTIONS, first)["event_id"].to_pylist() == ["a"]
    assert lake.erase(INTERACTIONS, [RowErasure(frozenset({"ada"}), {}, 2**62)]) == 1
    assert lake.vacuum(INTERACTIONS, 0) == 3
    assert lake.read(INTERACTIONS)["event_id"].to_pylist() == ["b"]
    assert lake.files(INTERACTIONS, lake.version(INTERACTIONS) or 0)[0].startswith(
        "s3://history/lake/shop/interactions/"
    )


@pytest.mark.servers("real")  # it takes ten seconds
def test_writers_of_one_bucket_lose_nothing_and_write_nothing_twice(bucket: LakeSettings) -> None:
    """No lock service: a commit is an object that is put only where there is none (conditional
    put).
    """
    Lake(bucket, "writers").append(INTERACTIONS, rows("first"), {SOURCE: 0})
    failures: list[Exception] = []

    def write(partition: int) -> None:
        lake, source, offset = (
            Lake(bucket, "writers"),
            Source("interactions.v1", "topic-1", partition),
            0,
        )
        try:
            while offset < 4:
                offset = lake.applied_offsets(INTERACTIONS, [source])[source] + 1
                try:
                    lake.append(INTERACTIONS, rows(f"{partition}-{offset}"), {source: offset})
                except LakeConflictError:
                    continue
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(partition,)) for partition in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    ids = Lake(bucket, "writers").read(INTERACTIONS)["event_id"].to_pylist()
    assert sorted(ids) == sorted(
        ["first", *(f"{partition}-{offset}" for partition in range(1, 5) for offset in range(5))]
    )


def test_a_source_that_another_writer_took_is_refused_there_too(bucket: LakeSettings) -> None:
    first, second = Lake(bucket, "source"), Lake(bucket, "source")
    assert (
        first.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
        == second.applied_offsets(INTERACTIONS, [SOURCE])[SOURCE]
        == -1
    )
    second.append(INTERACTIONS, rows("a"), {SOURCE: 0})
    with pytest.raises(LakeConflictError):
        first.append(INTERACTIONS, rows("a"), {SOURCE: 0})


def test_exports_are_read_from_a_bucket(
    bucket: LakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.storage_options.items():
        monkeypatch.setenv(name, value)
    url = bucket.storage_options["AWS_ENDPOINT_URL"]
    for part in range(2):
        content = gzip.compress(
            f"user_id,item_id,event_type,ts\nu,i{part},view,2026-10-01\n".encode()
        )
        httpx.put(f"{url}/history/export/part-{part}.csv.gz", content=content).raise_for_status()
    files = find_files("s3://history/export")
    assert [file.name for file in files] == [
        f"s3://history/export/part-{part}.csv.gz" for part in range(2)
    ]
    exports = [open_export(file, Choices()) for file in files]
    assert [export.survey().types for export in exports] == [{"view": 1}] * 2
