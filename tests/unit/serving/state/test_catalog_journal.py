import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from services.serving.state import catalog_journal
from services.serving.state.catalog_journal import CatalogJournal
from slipstream.contracts.positions import StreamCatalogRecord
from slipstream.slates.catalogue.catalog import Catalog
from slipstream.slates.catalogue.growing import Rooms, write_rooms
from tests.unit.serving.fakes import item_record

FIRST, SECOND, THIRD = (item_record(name, attributes={"b": [1]}) for name in ("a", "b", "c"))


def catalog_of(records: Iterable[StreamCatalogRecord]) -> Catalog:
    catalog = Catalog()
    for record in records:
        catalog.apply(record)
    return catalog


def ids(path: Path) -> list[str] | None:
    """The items of the files; None where there are none."""
    catalog = Catalog()
    if not CatalogJournal(path).load(catalog):
        return None
    return [each.record.entity_id for each in catalog.records()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "catalog"


def test_a_snapshot_and_the_changes_since_are_read_back(path: Path) -> None:
    assert ids(path) is None
    journal, catalog = CatalogJournal(path), catalog_of([FIRST])
    journal.rewrite(catalog)
    journal.append([SECOND])
    assert ids(path) == ["a", "b"]
    assert list(catalog.records()) == list(catalog_of([FIRST]).records())


def test_a_line_that_a_crash_tore_costs_that_line_alone(path: Path) -> None:
    journal = CatalogJournal(path)
    journal.rewrite(Catalog())
    journal.append([FIRST, SECOND])
    journal.close()
    changes = path.with_name("catalog.changes.jsonl")
    changes.write_bytes(changes.read_bytes()[:-9])
    CatalogJournal(path).append([THIRD])
    assert ids(path) == ["a", "c"]


def test_what_is_appended_during_a_snapshot_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = CatalogJournal(path)

    def while_others_append(path: Path, rooms: Rooms, made_by: str) -> None:
        journal.append([THIRD])
        write_rooms(path, rooms, made_by)

    journal.rewrite(catalog_of([FIRST]))
    monkeypatch.setattr(catalog_journal, "write_rooms", while_others_append)
    journal.rewrite(catalog_of([FIRST, SECOND]))
    assert ids(path) == ["a", "b", "c"]


def test_a_crash_before_the_new_changes_are_there_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = CatalogJournal(path)
    journal.rewrite(catalog_of([FIRST]))
    journal.append([SECOND])
    monkeypatch.setattr(journal, "_take_fresh", lambda: None)
    journal.rewrite(catalog_of([FIRST]))
    assert ids(path) == ["a", "b"]


def test_a_disk_that_takes_no_more_costs_the_files_and_not_the_catalogue(path: Path) -> None:
    journal = CatalogJournal(path)
    journal.rewrite(catalog_of([FIRST]))
    journal._file = Path("/dev/full").open("ab")  # noqa: SIM115
    journal.append([SECOND])
    assert ids(path) is None
    journal.append([THIRD])
    assert ids(path) is None
    assert journal.appended == 2
    full = path.with_name("catalog.items.part")
    full.symlink_to("/dev/full")
    catalog = catalog_of([FIRST])
    journal.rewrite(catalog)
    assert ids(path) is None
    assert "a" in catalog
    journal.rewrite(catalog)
    assert ids(path) == ["a"] and journal.appended == 0


@pytest.mark.parametrize("content", [b"", b"slipstream rooms 0\n", b"slipstream rooms 1\n\0\0"])
def test_a_file_of_another_form_counts_as_none_and_is_made_again(
    path: Path, content: bytes
) -> None:
    path.parent.mkdir()
    path.with_name("catalog.items").write_bytes(content)
    assert ids(path) is None
    CatalogJournal(path).rewrite(catalog_of([FIRST]))
    assert ids(path) == ["a"]


def test_a_file_that_is_too_short_counts_as_none(path: Path) -> None:
    CatalogJournal(path).rewrite(catalog_of([FIRST]))
    file = path.with_name("catalog.items")
    file.write_bytes(file.read_bytes()[:-1])
    assert ids(path) is None


def test_one_process_appends_and_the_others_find_what_it_has_appended(path: Path) -> None:
    journal, other = CatalogJournal(path, run="1"), CatalogJournal(path, appends=False, run="1")
    other.rewrite(catalog_of([FIRST]))
    other.append([SECOND])
    journal.append([THIRD])
    assert ids(path) == ["a", "c"]
    assert CatalogJournal(path, run="1").load(Catalog(), of_this_run=True)
    assert not CatalogJournal(path, run="2").load(Catalog(), of_this_run=True)


def test_a_turn_waits_for_the_one_before_until_it_shall_stop(path: Path) -> None:
    first, second, stop = CatalogJournal(path), CatalogJournal(path), threading.Event()
    begun = threading.Event()

    def wait() -> None:
        with second.turn(stop) as mine:
            assert not mine
            begun.set()

    waiting = threading.Thread(target=wait)
    with first.turn(threading.Event()):
        waiting.start()
        assert not begun.wait(0.3)
        stop.set()
        waiting.join(10)
        assert begun.is_set()
        with second.turn() as mine:
            assert not mine
    with second.turn() as mine:
        assert mine
