from collections.abc import Iterator
from pathlib import Path

import pytest

from services.serving.state.catalog_journal import CatalogJournal
from slipstream.contracts.positions import StreamCatalogRecord
from tests.unit.serving.fakes import item_record

FIRST, SECOND, THIRD = (item_record(name, attributes={"b": [1]}) for name in ("a", "b", "c"))


def read(path: Path) -> list[StreamCatalogRecord]:
    return list(CatalogJournal(path).read())


def test_a_snapshot_and_the_changes_since_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "catalog.jsonl"
    assert read(path) == []
    journal = CatalogJournal(path)
    journal.rewrite([FIRST])
    journal.append([SECOND])
    assert read(path) == [FIRST, SECOND]


def test_a_line_that_a_crash_tore_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    journal.rewrite([FIRST, SECOND])
    journal.close()
    path.write_bytes(path.read_bytes()[:-9])
    CatalogJournal(path).append([THIRD])
    assert read(path) == [FIRST, THIRD]


def test_a_snapshot_that_breaks_off_changes_nothing_and_loses_no_change(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    journal.rewrite([FIRST])

    def broken() -> Iterator[StreamCatalogRecord]:
        yield SECOND
        journal.append([THIRD])
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        journal.rewrite(broken())
    assert read(path) == [FIRST, THIRD]


def test_what_is_appended_during_a_snapshot_is_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)

    def known() -> Iterator[StreamCatalogRecord]:
        yield FIRST
        journal.append([THIRD])
        yield SECOND

    journal.rewrite(known())
    assert read(path) == [FIRST, THIRD, SECOND]


def test_a_disk_that_takes_no_more_costs_the_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    journal.rewrite([FIRST])
    journal._file = Path("/dev/full").open("ab")  # noqa: SIM115
    journal.append([SECOND])
    assert not path.exists()
    journal.append([THIRD])
    assert not path.exists()
    assert journal.appended == 2
    journal.rewrite([FIRST])
    assert read(path) == [FIRST] and journal.appended == 0
