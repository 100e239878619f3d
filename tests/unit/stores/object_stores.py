"""The cases that hold for an object store of every kind."""

from pathlib import Path

from slipstream.stores.object_store import ObjectStore


def check_files(store: ObjectStore, tmp_path: Path) -> None:
    """Write, list, fetch, replace and delete files."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "large").write_bytes(bytes(9_000_000))
    (source / "empty").touch()
    (source / "folder").mkdir()
    assert (store.names(), store.read("a/b"), store.names("a")) == ([], None, [])
    store.clear()
    store.delete("a/b")
    store.fetch("a", target)
    assert list(target.iterdir()) == []

    store.write("a/b", b"first")
    store.write("a/b", b"second")
    store.put(source, "a/c")
    assert store.names() == ["a/b", "a/c/empty", "a/c/large"]
    assert store.names("a/c") == ["a/c/empty", "a/c/large"]
    assert store.read("a/b") == b"second"
    assert store.below("a").read("b") == b"second"
    store.fetch("a/c", target)
    assert {file.name: file.stat().st_size for file in target.iterdir()} == {
        "empty": 0,
        "large": 9_000_000,
    }
    store.write("ab", b"not of a")
    store.delete("a/b")
    store.below("a").clear()
    assert store.names() == ["ab"]
