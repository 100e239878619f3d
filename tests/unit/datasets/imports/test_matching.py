"""Which id events and a catalogue have in common."""

from pathlib import Path

from slipstream.datasets.imports.matching import matched_ids
from slipstream.datasets.imports.sources import find_files
from slipstream.datasets.imports.surveys import Export, open_export
from slipstream.datasets.imports.understanding import Choices


def export_of(path: Path, text: str, columns: dict[str, str] | None = None) -> Export:
    path.write_text(text)
    (file,) = find_files(str(path))
    return open_export(file, Choices(columns or {}))


def test_the_columns_with_common_ids_are_taken(tmp_path: Path) -> None:
    events = export_of(tmp_path / "e.csv", "user_id,ref,ts\nu,red,2026-11-02\nv,blue,2026-11-02\n")
    items = export_of(tmp_path / "i.csv", "sku,handle,title\n1,red,Red\n2,blue,Blue\n3,x,X\n")
    assert matched_ids([items, events]) == {
        events.file.name: {"ref": "item_id"},
        items.file.name: {"handle": "item_id"},
    }
    # Without a file of items, those of the stack tell.
    assert matched_ids([events], {"red"}) == {events.file.name: {"ref": "item_id"}}
    assert matched_ids([events], {"green"}) == {}


def test_columns_that_fit_or_were_chosen_stay(tmp_path: Path) -> None:
    rows = "user_id,sku,article,ts\nu,1,red,2026-11-02\n"
    items = export_of(tmp_path / "i.csv", "sku,handle,title\n1,red,Red\n")
    assert matched_ids([export_of(tmp_path / "e.csv", rows), items]) == {}
    other = export_of(tmp_path / "i.csv", "sku,handle,title\n1,red,Red\n", {"handle": "item_id"})
    events = export_of(tmp_path / "e.csv", rows)
    assert matched_ids([events, other])[events.file.name] == {"article": "item_id"}
