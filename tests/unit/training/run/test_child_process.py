"""A run's real process: what it tells, how it is stopped, and that it never outlives us."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.training.run.child_process import ChildStarter
from services.training.run.exchange import open_exchange
from services.training.run.job import Job, TrainingResult
from services.training.run.launcher import GivenUpError, KilledError, Launcher, RunFailedError
from services.training.settings import TrainingSection, TrainingSettings
from slipstream.chassis.logging import carrying
from slipstream.chassis.settings import ArtifactSettings, LakeSettings, LogSettings
from slipstream.recommender.bundle import load_bundle
from slipstream.stores.lake import Lake
from tests.unit.training.histories import chain, write
from tests.unit.training.jobs import job_of
from tests.waiting import until

Compute = Callable[..., TrainingResult]


def children() -> set[int]:
    found = set[int]()
    for file in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends meanwhile
            found |= set(map(int, file.read_text().split()))
    return found


def processes_with(*words: str) -> list[str]:
    """The command lines that hold all these words."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if all(word in line for word in words)]


def is_running(pid: int) -> bool:
    """Whether the process turns; one that has ended, even if unawaited, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def settings(lake_settings: LakeSettings, tmp_path: Path) -> TrainingSettings:
    return TrainingSettings(
        lake=lake_settings,
        log=LogSettings(level="error"),
        artifacts=ArtifactSettings(directory=tmp_path / "models"),
        training=TrainingSection(niceness=3),
    )


@pytest.fixture
def job(settings: TrainingSettings, tmp_path: Path) -> Job:
    (tmp_path / "checkpoints").mkdir()
    usual = {"lake": settings.lake, "training": settings.training}
    return job_of(tmp_path, **usual, checkpoints=tmp_path / "checkpoints")


@pytest.fixture
def history(lake: Lake) -> None:
    write(lake, chain())


@pytest.fixture
def compute(settings: TrainingSettings, job: Job) -> Compute:
    launcher = Launcher(open_exchange(settings), ChildStarter(settings), look_s=0.01)

    def run(
        on_progress: Callable[[dict[str, Any]], None] = lambda _: None,
        give_up: Callable[[bool], bool] = lambda _: False,
        stop: threading.Event | None = None,
    ) -> TrainingResult:
        try:
            return launcher.run(
                job, on_progress=on_progress, give_up=give_up, stop=stop or threading.Event()
            )
        finally:
            assert not launcher.goes_on(job.version)
            launcher.forget(job.version)

    return run


@pytest.mark.usefixtures("history")
def test_run_leaves_its_bundle_and_checkpoints_where_the_service_has_them(
    compute: Compute, job: Job, settings: TrainingSettings
) -> None:
    before, messages, priorities = children(), list[dict[str, Any]](), set[int]()

    def on_progress(message: dict[str, Any]) -> None:
        messages.append(message)
        priorities.update(os.getpriority(os.PRIO_PROCESS, pid) for pid in children() - before)

    trained = compute(on_progress)
    assert trained.metrics["queries"] > 10
    assert load_bundle(job.output).version == "v1"
    assert messages[0]["stage"] == "reading the lake"
    assert messages[-1]["lake_version"] == trained.lake_version
    assert os.getpriority(os.PRIO_PROCESS, 0) + 3 in priorities
    assert open_exchange(settings).runs() == []


@pytest.mark.servers("real")  # it takes both cores for half a minute
@pytest.mark.usefixtures("history")
def test_two_processes_train_one_run(settings: TrainingSettings, job: Job) -> None:
    together = settings.training.model_copy(update={"processes": 2})
    settings = settings.model_copy(update={"training": together})
    before, most = children(), 0

    def on_progress(_: dict[str, Any]) -> None:
        nonlocal most
        most = max(most, len(children() - before))

    trained = Launcher(open_exchange(settings), ChildStarter(settings), look_s=0.01).run(
        job, on_progress=on_progress, give_up=lambda _: False, stop=threading.Event()
    )
    assert trained.metrics["queries"] > 10
    assert load_bundle(job.output).version == "v1"
    assert most == 1  # the others are that one's
    until(lambda: not processes_with("training-run", str(job.output.parent)), limit_s=20)


def test_too_little_data_is_a_reason(compute: Compute) -> None:
    with pytest.raises(RunFailedError, match="the lake holds no interactions yet"):
        compute()


@pytest.mark.parametrize(
    ("end", "error", "reason"),
    [
        ("exit 1", RunFailedError, r"without a result \(status 1\)"),
        ("exit 143", KilledError, "died of signal 15"),  # as the command answers SIGTERM
        ("kill -9 $$", KilledError, "for want of memory"),
    ],
)
def test_end_without_a_result_has_its_reason(
    compute: Compute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
    error: type[RunFailedError],
    reason: str,
) -> None:
    command = tmp_path / "python"
    command.write_text(f"#!/bin/sh\n{end}\n")
    command.chmod(0o755)
    monkeypatch.setattr("services.training.run.child_process.sys.executable", str(command))
    with pytest.raises(RunFailedError, match=reason) as raised:
        compute()
    assert raised.type is error


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("by", ["cancellation", "end of the service"])
def test_run_that_is_given_up_leaves_no_process(compute: Compute, job: Job, by: str) -> None:
    before, seen, stop = children(), set[int](), threading.Event()

    def give_up(held: bool) -> bool:
        seen.update(children() - before)
        if seen and by == "end of the service":
            stop.set()
            return False
        return bool(seen)

    with pytest.raises(GivenUpError):
        compute(give_up=give_up, stop=stop)
    assert seen
    assert not seen & children()
    assert not job.output.exists()


@pytest.mark.usefixtures("history")
def test_killed_run_says_so(compute: Compute) -> None:
    before = children()

    def kill(_message: dict[str, Any]) -> None:
        for pid in children() - before:
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(KilledError, match="signal 9"):
        compute(kill)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("history")
def test_run_dies_with_a_killed_service(
    job: Job, settings: TrainingSettings, tmp_path: Path
) -> None:
    (tmp_path / "job.json").write_text(job.model_dump_json())
    service = textwrap.dedent(
        f"""
        import os, threading, time
        from pathlib import Path
        from services.training.run.child_process import ChildStarter
        from services.training.run.exchange import open_exchange
        from services.training.run.job import Job
        from services.training.run.launcher import Launcher
        from services.training.settings import TrainingSettings

        def print_children(message):
            for file in Path(f"/proc/{{os.getpid()}}/task").glob("*/children"):
                for pid in file.read_text().split():
                    print(pid, flush=True)
            time.sleep(60)

        settings = TrainingSettings()
        Launcher(open_exchange(settings), ChildStarter(settings)).run(
            Job.model_validate_json(Path({str(tmp_path / "job.json")!r}).read_text()),
            on_progress=print_children, give_up=lambda _: False, stop=threading.Event(),
        )
        """
    )
    environment = {
        "SLIPSTREAM_LAKE__URI": settings.lake.uri,
        "SLIPSTREAM_ARTIFACTS__DIRECTORY": str(settings.artifacts.directory),
    }
    with subprocess.Popen(
        [sys.executable, "-c", service],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as parent:
        assert parent.stdout is not None
        line = next(line for line in parent.stdout if line.strip().isdigit())
        child = int(line)
        assert is_running(child)
        parent.kill()
        deadline = time.monotonic() + 60
        while is_running(child):
            assert time.monotonic() < deadline, "the training process outlived its service"
            time.sleep(0.02)
    assert not job.output.exists()  # it did not end because it was done


@pytest.mark.usefixtures("history")
def test_run_logs_with_the_request_id_that_asked_for_it(
    compute: Compute, job: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    for entry in Path(job.lake.uri).rglob("_delta_log/*.json"):
        entry.write_text("not what it was")
    with carrying("r-1"), pytest.raises(RunFailedError):
        compute()
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["event"], line["request_id"]) for line in lines] == [("training failed", "r-1")]
