from pathlib import Path

import numpy as np
import pytest

from slipstream.models.transformer import Transformer, TransformerParameters
from slipstream.models.transformer_fit import TransformerFit, fit_transformer
from slipstream.recommender.search import BestTrial, SearchState, Trial
from slipstream.recommender.search_checkpoint import SearchCheckpoint
from tests.unit.models.logs import log_of

TINY = TransformerParameters(dim=8, window=4, batch=20, epochs=2, heads=1, blocks=1)


@pytest.fixture(scope="module")
def network() -> TransformerFit:
    return fit_transformer(log_of([[0, 1, 2, 3], [1, 2, 3, 0]], 4), TINY)


@pytest.fixture
def state(network: TransformerFit) -> SearchState:
    trials = [Trial(0, "complete", 0.5, 2, 1.5, TINY), Trial(1, "pruned", 0.1, 1, 0.5, TINY)]
    return SearchState(trials, [[0.4, 0.5], [0.1]], BestTrial(0.5, network, TINY), 2.0)


def test_state_is_read_as_it_was_written(tmp_path: Path, state: SearchState) -> None:
    checkpoint = SearchCheckpoint(tmp_path / "made later" / "search.npz", "data")
    assert checkpoint.read() is None
    checkpoint.write(SearchState([], [], None, 1.0))
    assert checkpoint.read() == SearchState([], [], None, 1.0)
    checkpoint.write(state)
    found = checkpoint.read()
    assert found is not None and found.best is not None and state.best is not None
    assert (found.trials, found.qualities, found.seconds) == (
        state.trials,
        state.qualities,
        state.seconds,
    )
    assert (found.best.quality, found.best.parameters) == (0.5, TINY)
    assert found.best.network.curve == state.best.network.curve
    _assert_equal(found.best.network.model, state.best.network.model)
    assert [file.name for file in checkpoint.path.parent.iterdir()] == ["search.npz"]  # type: ignore[union-attr]


def test_another_searchs_and_half_a_file_are_left_alone(tmp_path: Path, state: SearchState) -> None:
    path = tmp_path / "search.npz"
    SearchCheckpoint(path, "data").write(state)
    assert SearchCheckpoint(path, "other data").read() is None
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert SearchCheckpoint(path, "data").read() is None


def test_disk_that_takes_nothing_ends_no_search(tmp_path: Path, state: SearchState) -> None:
    (tmp_path / "file").touch()
    SearchCheckpoint(tmp_path / "file" / "search.npz", "data").write(state)
    SearchCheckpoint(None, "data").write(state)
    assert SearchCheckpoint(None, "data").read() is None


def _assert_equal(one: Transformer, other: Transformer) -> None:
    assert one.parameters() == other.parameters()
    assert {name: array.tobytes() for name, array in one.arrays().items()} == {
        name: array.tobytes() for name, array in other.arrays().items()
    }
    np.testing.assert_array_equal(one.items.rows, other.items.rows)
