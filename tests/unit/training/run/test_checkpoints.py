from pathlib import Path

from services.training.run.checkpoints import Checkpoints


def test_directory_of_a_work_is_the_same_until_it_is_dropped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "made later")
    checkpoints.keep_only([])
    checkpoints.drop("never begun")
    (checkpoints.of("a") / "epoch-1").touch()
    checkpoints.of("b")
    assert [file.name for file in Checkpoints(tmp_path / "made later").of("a").iterdir()] == [
        "epoch-1"
    ]
    checkpoints.keep_only(["b"])
    assert list(checkpoints.of("a").iterdir()) == []
    checkpoints.drop("a")
    assert [directory.name for directory in (tmp_path / "made later").iterdir()] == ["b"]
