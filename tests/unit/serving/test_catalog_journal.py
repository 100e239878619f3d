from collections.abc import Iterator
from pathlib import Path

import pytest

from services.serving import catalog_journal
from services.serving.catalog_journal import CatalogJournal
from slipstream.contracts.positions import StreamCatalogRecord
from tests.unit.serving.fakes import item_record

FIRST, SECOND, THIRD = (item_record(name, attributes={"b": [1]}) for name in ("a", "b", "c"))


def read(path: Path) -> list[StreamCatalogRecord]:
    return list(CatalogJournal(path).read())


def test_a_snapshot_and_the_changes_since_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "catalog.jsonl"
    assert read(path) == []
    journal = CatalogJournal(path)
    assert list(journal.rewrite([FIRST])) == [FIRST]
    journal.append([SECOND])
    assert read(path) == [FIRST, SECOND]


def test_a_line_that_a_crash_tore_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    list(journal.rewrite([FIRST, SECOND]))
    journal.close()
    path.write_bytes(path.read_bytes()[:-9])
    CatalogJournal(path).append([THIRD])
    assert read(path) == [FIRST, THIRD]


def test_a_snapshot_that_breaks_off_changes_nothing_and_loses_no_change(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    list(journal.rewrite([FIRST]))

    def broken() -> Iterator[StreamCatalogRecord]:
        yield SECOND
        journal.append([THIRD])
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        list(journal.rewrite(broken()))
    assert read(path) == [FIRST, THIRD]


def test_what_is_appended_during_a_snapshot_is_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    for entry in journal.rewrite([FIRST, SECOND]):
        if entry is FIRST:
            journal.append([THIRD])
    assert read(path) == [FIRST, THIRD, SECOND]


def test_changes_before_the_first_snapshot_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    journal.append([FIRST])
    assert not journal.exists
    assert list(journal.rewrite([])) == []
    assert journal.exists
    assert read(path) == [FIRST]


def test_more_changes_than_are_kept_before_a_snapshot_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_journal, "MOST_EARLY", 1)
    journal = CatalogJournal(tmp_path / "catalog.jsonl")
    journal.append([FIRST, SECOND])
    assert list(journal.rewrite([THIRD])) == [THIRD]
    assert not journal.exists


def test_a_disk_that_takes_no_more_costs_the_file(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    journal = CatalogJournal(path)
    list(journal.rewrite([FIRST]))
    journal._file = Path("/dev/full").open("ab")  # noqa: SIM115
    journal.append([SECOND])
    assert not path.exists()
    journal.append([THIRD])
    assert not path.exists()
    assert list(journal.rewrite([FIRST])) == [FIRST]
    assert read(path) == [SECOND, THIRD, FIRST]
