"""Runs and decisions in a real SQLite database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.training.records import ENDED, TRANSITIONS, Audit, TransitionError
from services.training.repository import Repository


def move(repository: Repository, run_id: str, state: str) -> None:
    if state == "running":
        repository.start(run_id)
    elif state == "queued":
        repository.queue_again(run_id, "killed")
    else:
        repository.finish(run_id, state)


def test_transitions_end_only_where_nothing_follows() -> None:
    assert {"succeeded", "failed", "cancelled"} == ENDED
    assert {after for following in TRANSITIONS.values() for after in following} == set(TRANSITIONS)


@given(path=st.lists(st.sampled_from([*TRANSITIONS]), max_size=5))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_move_follows_the_table_and_nothing_else(repository: Repository, path: list[str]) -> None:
    run_id = repository.add(
        f"r{threading.get_ident()}-{len(repository.page(500)[0])}", "request", "", "fast"
    ).run_id
    state = "queued"
    for wanted in path:
        if wanted in TRANSITIONS[state]:
            move(repository, run_id, wanted)
            state = wanted
        else:
            with pytest.raises(TransitionError, match=f"is {state} and can't become {wanted}"):
                move(repository, run_id, wanted)
    run = repository.get(run_id)
    assert run is not None
    assert run.state == state
    assert (run.finished_at is not None) == (state in ENDED)


def test_start_from_many_threads_succeeds_once(repository: Repository) -> None:
    repository.add("r1", "request", "", "fast")
    together = threading.Barrier(4)

    def start() -> bool:
        together.wait()
        try:
            repository.start("r1")
        except TransitionError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        outcomes = [done.result() for done in [pool.submit(start) for _ in range(4)]]
    assert sorted(outcomes) == [False, False, False, True]


def test_page_walks_all_runs_newest_first(repository: Repository) -> None:
    for number in range(5):
        repository.add(f"r{number}", "request", "", "fast")
    seen, cursor = [], None
    while True:
        runs, cursor = repository.page(2, cursor)
        seen += [run.run_id for run in runs]
        if cursor is None:
            break
    assert seen == ["r4", "r3", "r2", "r1", "r0"]


def test_finish_keeps_decision_and_metrics(repository: Repository) -> None:
    repository.add("r1", "alert", "drift", "fast")
    repository.start("r1")
    repository.note("r1", stage="judging", progress=0.5, lake_version=7, lake_rows=1_000)
    repository.finish(
        "r1", "succeeded", decision="promoted", model_version="r1", metrics={"ndcg@10": 0.1}
    )
    run = repository.get("r1")
    assert run is not None
    assert (run.trigger, run.reason, run.lake_version, run.decision, run.metrics) == (
        "alert",
        "drift",
        7,
        "promoted",
        {"ndcg@10": 0.1},
    )


def test_note_after_the_end_changes_nothing(repository: Repository) -> None:
    repository.add("r1", "request", "", "fast")
    repository.start("r1")
    repository.finish("r1", "cancelled")
    repository.note("r1", stage="late")
    run = repository.get("r1")
    assert run is not None
    assert run.stage == ""


def test_last_run_remembers_rows_of_the_last_that_read(repository: Repository) -> None:
    assert repository.last_run() is None
    repository.add("r1", "request", "", "fast")
    repository.start("r1")
    repository.note("r1", lake_rows=500, lake_version=8, catalog_version=3)
    repository.finish("r1", "succeeded")
    repository.add("r2", "request", "", "fast")
    last = repository.last_run()
    assert last is not None
    assert (last.finished_at, last.lake_rows, last.lake_version, last.catalog_version) == (
        None, 500, 8, 3,
    )  # fmt: skip


def test_record_keeps_every_decision_in_order(repository: Repository) -> None:
    first = Audit(
        "r1", "r1", None, "refused", "too few", {"queries": 3.0}, {"margin": 0.0}, decided_at=1
    )
    second = Audit(
        "r1", "r1", "r0", "promoted", "better", {"queries": 30.0}, {"margin": 0.0}, decided_at=2
    )
    repository.record(first)
    repository.record(second)
    assert repository.decisions("r1") == [first, second]
    assert repository.decisions("r2") == []


def test_a_killed_run_is_queued_again_once_with_the_versions_that_it_has_read(
    repository: Repository,
) -> None:
    repository.add("r1", "alert", "drift", "best", request_id="r-1")
    repository.start("r1")
    repository.note("r1", lake_version=7, lake_rows=1_000, catalog_version=3, epoch=2, progress=0.5)
    before = repository.last_run()
    queued = repository.queue_again("r1", "killed")
    assert (queued.state, queued.error, queued.attempt) == ("queued", "killed", 2)
    assert (queued.trigger, queued.reason, queued.profile) == ("alert", "drift", "best")
    assert (queued.lake_version, queued.catalog_version) == (7, 3)
    assert (queued.started_at, queued.epoch, queued.progress) == (None, None, 0.0)
    assert repository.last_run() == before
    with pytest.raises(TransitionError):
        repository.queue_again("r1", "killed")
    repository.start("r1")
    assert repository.finish("r1", "succeeded").error is None
    with pytest.raises(TransitionError):
        repository.queue_again("r1", "killed")
