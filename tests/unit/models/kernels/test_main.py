"""Compiling ahead: for an image every level in a process of its own, here this machine's alone."""

from typing import Any

import pytest

from slipstream.models.kernels import __main__ as ahead
from slipstream.models.kernels.compiler import levels


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were prepared here, and the levels of the processes that were started."""
    done: list[str] = []

    def run(_command: list[str], *, env: dict[str, str], check: bool) -> None:
        assert check
        done.append(env["NUMBA_CPU_NAME"])

    def prepare(kernel: Any, _signature: Any) -> None:
        done.append(kernel.__name__)

    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr(ahead, "prepare", prepare)
    return done


def test_every_level_has_a_process(done: list[str]) -> None:
    ahead.main([])
    assert done == levels()


def test_here_is_the_level_of_this_machine(done: list[str]) -> None:
    ahead.main(["--here"])
    assert done == ["recommend", "fill"]
