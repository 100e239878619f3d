from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingestion.spool import READ_BYTES, Entry, Spool, SpoolFullError, SpoolInUseError


def entry(number: int, size: int = 10) -> Entry:
    return Entry("interactions.v1", f"u{number}", "rid", False, number, "x" * size)


def entries(count: int, start: int = 0) -> list[Entry]:
    return [entry(number) for number in range(start, start + count)]


def drained(spool: Spool, chunk: int = 3) -> list[Entry]:
    entries: list[Entry] = []
    while not spool.empty:
        some, behind = spool.read(chunk)
        entries += some
        spool.advance(behind)
    return entries


def test_entries_come_back_in_order_also_after_a_new_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    spool.append(entries(4))
    spool.append(entries(4, 4))
    some, behind = spool.read(3)
    spool.advance(behind)
    assert some == entries(3)
    spool.close()
    again = Spool(tmp_path, 10**6)
    assert drained(again) == entries(5, 3)
    assert (again.waiting_bytes, again.empty) == (0, True)
    again.append(entries(1, 8))
    assert drained(again) == entries(1, 8)


def test_no_byte_of_what_was_sent_stays_on_the_disk(tmp_path: Path) -> None:
    def bytes_left() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("*.spool"))

    spool = Spool(tmp_path, 10**6)
    spool.append(entries(4))
    _, behind = spool.read(3)
    spool.advance(behind)
    assert bytes_left() and not spool.empty
    drained(spool)
    assert (bytes_left(), spool.waiting_bytes) == (0, 0)
    spool.append(entries(1))
    segment, offset = spool.read(1)[1]
    spool.close()
    # Killed after the position was stored, and before the segment was deleted.
    (tmp_path / "position").write_text(f"{segment} {offset}\n")
    again = Spool(tmp_path, 10**6)
    assert (again.empty, bytes_left()) == (True, 0)
    again.append(entries(2))
    assert drained(again) == entries(2)


def test_what_was_read_and_not_advanced_over_is_read_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    spool.append(entries(2))
    assert spool.read(9)[0] == spool.read(9)[0] == entries(2)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_log_cut_at_any_byte_keeps_all_before_the_cut_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 10**6)
    ends = []
    (path,) = folder.glob("*.spool")
    for number in range(5):
        spool.append([entry(number, data.draw(st.integers(0, 40)))])
        ends.append(path.stat().st_size)
    before, _ = spool.read(5)
    spool.close()
    cut = data.draw(st.integers(0, ends[-1]))
    garbage = data.draw(st.binary(max_size=20))
    path.write_bytes(path.read_bytes()[:cut] + garbage)
    whole = sum(end <= cut for end in ends)
    again = Spool(folder, 10**6)
    again.append([entry(9)])
    left = drained(again)
    assert left[:whole] == before[:whole]
    # The entry of the cut frame is gone, unless the garbage happens to complete it.
    assert left[whole:] in ([entry(9)], [before[whole % 5], entry(9)])
    again.close()


def test_large_entries_are_read_in_smaller_portions(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**8)
    large = [entry(number, READ_BYTES // 3) for number in range(7)]
    spool.append(large)
    assert [len(spool.read(500)[0]), len(spool.read(2)[0])] == [3, 2]
    assert drained(spool, 500) == large


def test_segments_are_deleted_when_all_of_them_is_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6, segment_bytes=200)
    for number in range(20):
        spool.append([entry(number)])
    assert len(list(tmp_path.glob("*.spool"))) > 3
    spool.close()
    again = Spool(tmp_path, 10**6, segment_bytes=200)
    assert drained(again, 4) == entries(20)
    assert len(list(tmp_path.glob("*.spool"))) == 1
    assert again.waiting_bytes == 0


def test_full_spool_takes_nothing_and_has_room_again_when_it_is_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 300)
    spool.append(entries(2))
    with pytest.raises(SpoolFullError):
        spool.append(entries(20))
    assert drained(spool) == entries(2)
    spool.append(entries(2))


def test_a_segment_that_can_t_be_begun_is_begun_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Spool(tmp_path, 10**6, segment_bytes=1)
    written.append(entries(1))
    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", _no_room)
        for _ in range(2):
            with pytest.raises(SpoolFullError):
                written.append(entries(1, 1))
    written.append(entries(2, 1))
    assert drained(written) == entries(3)


def _no_room(*_arguments: object, **_options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("chunk", [2, 9])
def test_a_position_that_can_t_be_stored_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    spool = Spool(tmp_path, 10**6, segment_bytes=100)
    for number in range(5):
        spool.append([entry(number)])
    waiting = spool.waiting_bytes
    with monkeypatch.context() as broken:
        broken.setattr(Spool, "_store", _no_room)
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                spool.advance(spool.read(chunk)[1])
            assert spool.waiting_bytes == waiting
    spool.append([entry(5)])
    assert drained(spool, chunk) == entries(6)
    assert (spool.waiting_bytes, len(list(tmp_path.glob("*.spool")))) == (0, 1)


def test_two_processes_can_t_share_a_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 300)
    with pytest.raises(SpoolInUseError, match="its own"):
        Spool(tmp_path, 300)
    spool.close()
    Spool(tmp_path, 300).close()
