"""The check of a GPU: its verdicts, its timing on a small shop, and that it is skipped here."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bench import gpu, training
from slipstream.models import transformer_training


def test_without_a_gpu_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "lack_of_gpu", lambda: "torch 2.9.0 is built without CUDA")
    done = CliRunner().invoke(gpu.main, [])
    assert (done.exit_code, done.output) == (0, "skipped: torch 2.9.0 is built without CUDA\n")


@pytest.mark.parametrize(
    ("figures", "holding"),
    [
        ((10.0, 100.0, 0.102, 0.1, None), [True, True]),
        ((10.1, 100.0, 0.0979, 0.1, 0.0998), [False, False, True]),
        ((1.0, 100.0, 0.1, 0.1, 0.1021), [True, True, False]),
    ],
)
def test_verdicts(figures: tuple[Any, ...], holding: list[bool]) -> None:
    assert [each.holds for each in gpu.verdicts(*figures)] == holding


@pytest.mark.parametrize(("names", "gains"), [(["H100"], 2), (["H100", "H100"], 3)])
@pytest.mark.parametrize(("gpu_s", "status"), [(10.0, 0), (50.0, 1)])
def test_it_ends_with_a_fault_where_a_bar_is_missed(
    names: list[str], gains: int, gpu_s: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def answer(function: Any, *given: Any) -> float:
        asked.append(given)
        if gpu.epoch_seconds not in given:
            return 0.1
        return gpu_s if "gpu" in given else 100.0

    monkeypatch.setattr(gpu, "lack_of_gpu", lambda: "")
    monkeypatch.setattr(gpu, "gpu_names", lambda: names)
    monkeypatch.setattr(gpu, "in_own_process", answer)
    monkeypatch.setattr(gpu, "_ndcg_of_two", lambda made: 0.1)
    done = CliRunner().invoke(gpu.main, [])
    assert done.exit_code == status
    assert done.output.count("NOT AS IT MUST BE") == status
    assert done.output.count("NDCG@10") == gains - 1
    assert {given[0] for given in asked if given[0] in ("gpu", "cpu")} == {"gpu", "cpu"}


def test_an_epoch_is_timed_by_a_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_training, "_TOLD_EVERY", 1)
    training.simulated(tmp_path / "shop", 30_000, 60, 0)
    begun = []

    def network_of(*given: Any) -> Any:
        begun.append(training.network_of(*given))
        return begun[-1]

    monkeypatch.setattr(gpu, "network_of", network_of)
    assert gpu.epoch_seconds(tmp_path / "shop", 0.2) > 0
    assert gpu.epoch_seconds(tmp_path / "shop", 1.0) > 0
    part, whole = begun
    assert (part.epoch, whole.epoch) == (0, 1)
    assert part.step < 0.5 * whole.step
