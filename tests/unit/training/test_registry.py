"""The registry on a real MLflow with SQLite. Each test has a database of its own."""

import socket
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event

from services.training.mlflow_connection import RegistryUnavailableError, tracking_uri
from services.training.registry import (
    ModelRegistry,
    NoCanaryError,
    NoPreviousError,
    UnknownVersionError,
)
from slipstream.chassis.settings import DatabaseSettings
from slipstream.contracts.bundle import SearchTrial
from slipstream.contracts.vocabulary import CANARY, CHALLENGER, CHAMPION
from slipstream.stores.artifacts import Artifacts
from slipstream.stores.metadata import DatabaseUnavailableError
from tests.unit.training.registries import Add, version_of


def test_register_makes_the_challenger(registry: ModelRegistry, add: Add) -> None:
    made = add("a")
    assert made == registry.get("a") == registry.alias(CHALLENGER)
    assert (made.aliases, made.metrics, made.lake_version, made.files) == (
        ["challenger"], {"ndcg@10": 0.25}, 3, ["manifest.json", "a.npy"],
    )  # fmt: skip
    assert registry.alias(CHAMPION) is None


def test_register_records_lineage_where_mlflow_shows_it(
    registry: ModelRegistry, add: Add, artifacts: Artifacts
) -> None:
    from mlflow import MlflowClient

    add("a")
    registry.note("a", {"decision": "promoted"}, {"gate/queries": 30.0})
    registry.promote("a")
    client = MlflowClient(registry.mlflow.uri, registry.mlflow.uri)
    version = client.get_model_version_by_alias("recommender", "champion")
    run = client.get_run(version.run_id)
    assert version.source == artifacts.path("a").as_uri()
    assert run.data.params == {"ease.regularisation": "10"}
    assert run.data.metrics == {"ndcg_at_10": 0.25, "gate/queries": 30.0}
    assert (run.data.tags["lake_version"], run.data.tags["decision"]) == ("3", "promoted")
    assert run.inputs.dataset_inputs[0].dataset.digest == ("ab" * 32)[:36]
    assert [file.path for file in client.list_artifacts(version.run_id)] == ["manifest.json"]


def test_trials_of_a_search_are_runs_below_that_of_the_version(
    registry: ModelRegistry, add: Add
) -> None:
    from mlflow import MlflowClient

    add("a")
    trials = [
        SearchTrial(
            number=number,
            state=state,
            quality=quality,
            epochs=3,
            seconds=1.5,
            parameters={"dim": 64},
        )
        for number, (state, quality) in enumerate([("complete", 0.2), ("diverged", None)])
    ]
    registry.log_trials("a", trials)
    client = MlflowClient(registry.mlflow.uri, registry.mlflow.uri)
    parent = client.search_model_versions("name = 'recommender'")[0].run_id
    runs = client.search_runs(
        [registry.mlflow.experiment],
        f"tags.mlflow.parentRunId = '{parent}'",
        order_by=["attribute.start_time"],
    )
    assert {run.info.run_name: run.info.status for run in runs} == {
        "trial 1": "FINISHED",
        "trial 2": "KILLED",
    }
    first = next(run for run in runs if run.info.run_name == "trial 1")
    assert first.data.metrics == {"quality": 0.2, "epochs": 3, "seconds": 1.5}
    assert (first.data.params, first.data.tags["state"]) == ({"dim": "64"}, "complete")


def test_promote_moves_champion_and_frees_challenger(registry: ModelRegistry, add: Add) -> None:
    add("a")
    assert registry.promote("a") is None
    add("b")
    assert registry.promote("b") == "a"
    assert registry.get("b").aliases == ["champion"]
    assert registry.get("a").aliases == []
    assert registry.alias(CHALLENGER) is None


def test_rollback_goes_back_step_by_step(registry: ModelRegistry, add: Add) -> None:
    for version in "abc":
        add(version)
        registry.promote(version)
    assert registry.rollback() == ("b", "c")
    assert registry.rollback() == ("a", "b")
    with pytest.raises(NoPreviousError):
        registry.rollback()
    assert version_of(registry.alias(CHAMPION)) == "a"


def test_rollback_after_promoting_champion_again_still_knows_the_one_before(
    registry: ModelRegistry, add: Add
) -> None:
    for version in "ab":
        add(version)
        registry.promote(version)
    registry.promote("b")
    assert registry.rollback() == ("a", "b")


def test_rollback_without_any_champion_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(NoPreviousError):
        registry.rollback()


def test_the_canary_is_set_moved_and_removed_beside_the_other_aliases(
    registry: ModelRegistry, add: Add, artifacts: Artifacts
) -> None:
    for version in "abc":
        add(version)
    registry.promote("a")
    assert registry.set_canary("b") is None
    assert registry.set_canary("c") == "b"
    assert registry.get("c").aliases == ["canary", "challenger"]
    registry.promote("c")
    assert registry.get("c").aliases == ["canary", "champion"]
    assert registry.remove_canary() == "c"
    with pytest.raises(NoCanaryError):
        registry.remove_canary()
    artifacts.delete("b")
    for gone in ("b", "nope"):
        with pytest.raises(UnknownVersionError):
            registry.set_canary(gone)
    assert registry.alias(CANARY) is None


def test_promote_without_bundle_is_refused_and_changes_nothing(
    registry: ModelRegistry, add: Add, artifacts: Artifacts
) -> None:
    for version in "ab":
        add(version)
    registry.promote("a")
    artifacts.delete("b")
    with pytest.raises(UnknownVersionError, match="bundle"):
        registry.promote("b")
    assert version_of(registry.alias(CHAMPION)) == "a"


@pytest.mark.parametrize("version", ["nope", "x' or name = 'recommender", ""])
def test_get_unknown_version_raises(registry: ModelRegistry, add: Add, version: str) -> None:
    add("a")
    with pytest.raises(UnknownVersionError):
        registry.get(version)


def test_versions_page_newest_first(registry: ModelRegistry, add: Add) -> None:
    for version in "abc":
        add(version)
    first, token = registry.versions(2)
    rest, end = registry.versions(2, token)
    assert [model.version for model in [*first, *rest]] == ["c", "b", "a"]
    assert end is None
    assert first[0].aliases == ["challenger"]


def test_versions_foreign_token_is_an_error(registry: ModelRegistry, add: Add) -> None:
    add("a")
    with pytest.raises(ValueError, match="cursor"):
        registry.versions(2, "nonsense")


def test_registry_not_opened_yet_says_so(tmp_path: Path, artifacts: Artifacts) -> None:
    closed = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", artifacts, patience_s=0.01)
    for call in (closed.check, lambda: closed.alias(CHAMPION), lambda: closed.get("a")):
        with pytest.raises(RegistryUnavailableError, match="starting"):
            call()


def test_a_registry_whose_database_does_not_answer_says_so(
    registry: ModelRegistry, add: Add, tmp_path: Path
) -> None:
    add("a")
    tables = ("registered_models", "model_versions")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        for table in tables:
            database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        asked: list[Callable[[], object]] = [
            lambda: registry.alias(CHAMPION),
            lambda: registry.versions(5),
            lambda: registry.get("a"),
        ]
        for call in (registry.check, *asked):
            with pytest.raises(RegistryUnavailableError, match="does not answer"):
                call()
        for table in tables:
            database.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    assert registry.get("a").version == "a"
    with pytest.raises(ValueError, match="not a cursor"):
        registry.versions(5, "none of ours")


def test_tracking_uri_is_beside_sqlite_or_in_the_same_postgresql() -> None:
    def database(url: str) -> DatabaseSettings:
        return DatabaseSettings(url=SecretStr(url))

    assert tracking_uri("", database("sqlite:////data/metadata.db")) == "sqlite:////data/mlflow.db"
    postgresql = "postgresql+psycopg://user:secret@host/db"
    assert tracking_uri("", database(postgresql)) == f"{postgresql}?connect_timeout=5"
    assert (
        tracking_uri("", database(f"{postgresql}?connect_timeout=9"))
        == f"{postgresql}?connect_timeout=9"
    )
    assert tracking_uri("sqlite:////own.db", database(postgresql)) == "sqlite:////own.db"


def test_a_database_that_is_away_is_said_in_one_line_before_mlflow_says_it_in_many(
    artifacts: Artifacts,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        registry = ModelRegistry(
            f"postgresql+psycopg://u:s3cret@127.0.0.1:{taken.getsockname()[1]}/shop", artifacts
        )
        with pytest.raises(DatabaseUnavailableError) as failure:
            registry.open()
    assert "\n" not in str(failure.value)
    assert not registry.wait_opened(0)


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


@pytest.mark.parametrize("statement", ["model_versions", "model_version_tags"])
def test_a_version_deleted_while_it_is_read_is_left_out(
    registry: ModelRegistry, add: Add, statement: str
) -> None:
    """MLflow reads versions and their tags in two statements; a deletion may come before each."""

    def reading(read: Callable[[], object], deleted: str) -> object:
        deleting = threading.Thread(target=registry.delete, args=[deleted])

        def delete(_connection: object, _cursor: object, sql: str, *_: object) -> None:
            if f"FROM {statement}" in sql.replace("\n", " ") and deleting.ident is None:
                deleting.start()
                deleting.join()

        event.listen(Engine, "before_cursor_execute", delete)
        try:
            return read()
        finally:
            event.remove(Engine, "before_cursor_execute", delete)
            assert deleting.ident is not None, "nothing was deleted"

    for version in "abcde":
        add(version)
    registry.promote("b")
    assert reading(lambda: registry.alias(CHAMPION), "b") is None
    assert reading(lambda: [model.version for model in registry.kept()], "c") == ["e", "d", "a"]
    assert reading(lambda: registry.prune(keep=1), "d") == ["a"]
