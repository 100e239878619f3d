"""Deletion of old versions, on a real MLflow with SQLite."""

import threading

import pytest

from services.training.registry import ModelRegistry, UnknownVersionError
from slipstream.contracts.vocabulary import CHAMPION
from slipstream.stores.artifacts import Artifacts
from tests.unit.training.registries import Add, version_of


def test_prune_keeps_champion_its_predecessor_the_canary_and_the_newest(
    registry: ModelRegistry, add: Add, artifacts: Artifacts
) -> None:
    for version in "abcde":
        add(version)
    registry.promote("a")
    registry.promote("b")
    registry.set_canary("c")
    assert registry.prune(keep=2) == []
    registry.remove_canary()
    assert registry.prune(keep=2) == ["c"]
    assert artifacts.versions() == ["a", "b", "d", "e"]
    assert [model.version for model in registry.versions(10)[0]] == ["e", "d", "b", "a"]
    assert registry.rollback() == ("a", "b")


def test_prune_spares_a_version_that_is_promoted_meanwhile(
    registry: ModelRegistry, add: Add, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in "abcd":
        add(version)
    delete, failed = artifacts.delete, threading.Event()

    def promote() -> None:
        try:
            registry.promote("a")
        except UnknownVersionError:
            failed.set()

    promoting = threading.Thread(target=promote)

    def delete_and_promote(version: str) -> None:
        delete(version)
        if version == "b":
            promoting.start()
            promoting.join(1)

    monkeypatch.setattr(artifacts, "delete", delete_and_promote)
    deleted = registry.prune(keep=2)
    promoting.join(60)
    # Either may come first.
    assert deleted == (["b", "a"] if failed.is_set() else ["b"])
    assert version_of(registry.alias(CHAMPION)) == (None if failed.is_set() else "a")
    assert artifacts.versions() == sorted({*"abcd"} - {*deleted})


def test_prune_finds_a_version_again_whose_deletion_was_cut_short(
    registry: ModelRegistry, add: Add, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in "abc":
        add(version)
    with monkeypatch.context() as killed:
        killed.setattr(registry.mlflow.client(), "delete_model_version", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            registry.prune(keep=2)
    assert artifacts.versions() == ["b", "c"]
    assert registry.prune(keep=2) == ["a"]
    assert [model.version for model in registry.versions(10)[0]] == ["c", "b"]
