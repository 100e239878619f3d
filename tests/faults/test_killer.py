"""The killer, on processes that do nothing."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.killer import Killer

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="tells by /proc whether a process is held"
)
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class Sleepers:
    """Processes by name, started again at once when they die; `held` counts those seen stopped."""

    def __init__(self, *names: str) -> None:
        self.processes = {name: subprocess.Popen(SLEEP) for name in names}
        self.held = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def pids(self) -> dict[str, int]:
        return {
            name: process.pid for name, process in self.processes.items() if process.poll() is None
        }

    def states(self) -> list[str]:
        found = []
        for pid in self.pids().values():
            # It may be killed meanwhile, and noticed first by the thread that kills.
            with suppress(FileNotFoundError, ProcessLookupError):
                found.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        return found

    def _run(self) -> None:
        while not self._ended.wait(0.005):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    self.processes[name] = subprocess.Popen(SLEEP)
            self.held += self.states().count("T")

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers("one", "two")
    yield made
    made.end()


def run_to_its_end(killer: Killer) -> None:
    killer.start()
    killer.join(60)
    assert not killer.busy


def test_each_is_killed_as_often_as_it_should_be(sleepers: Sleepers) -> None:
    killer = Killer(sleepers.pids, {"one": 3, "two": 3}, 0.3, seed=1)
    run_to_its_end(killer)
    assert (killer.kills, killer.left) == ({"one": 3, "two": 3}, {})
    assert not sleepers.held


def test_who_was_killed_is_held_for_the_pause_and_then_goes_on(sleepers: Sleepers) -> None:
    killer = Killer(sleepers.pids, {"one": 2}, 0.1, seed=1, pauses=[2.0])
    run_to_its_end(killer)
    assert killer.kills == {"one": 2}
    assert sleepers.held
    assert killer.slowest_restart_s >= 2.0
    assert "T" not in sleepers.states()


def test_nobody_is_held_any_more_once_the_killing_is_ended(sleepers: Sleepers) -> None:
    killer = Killer(sleepers.pids, {"one": 2}, 0.1, seed=1, pauses=[60.0])
    killer.start()
    deadline = time.monotonic() + 60
    while not sleepers.held and time.monotonic() < deadline:
        time.sleep(0.01)
    killer.end()
    assert killer.left == {"one": 1}
    assert sleepers.held and "T" not in sleepers.states()


def test_the_victim_is_asked_for_at_the_moment_and_may_be_nobody_yet(sleepers: Sleepers) -> None:
    answers = iter([None, None, "two", "one"])
    killer = Killer(sleepers.pids, {"any": 2}, 0.1, seed=1, victim=lambda name: next(answers))
    run_to_its_end(killer)
    assert killer.kills == {"one": 1, "two": 1}
