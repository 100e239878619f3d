"""The network: NumPy reads what torch trained, it learns an order, and goes on after a kill."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipstream.models.base import Dense, History, InteractionLog
from slipstream.models.content import fit_terms
from slipstream.models.transformer import (
    BUCKETS,
    Transformer,
    TransformerParameters,
    distance_buckets,
    gap_buckets,
)
from slipstream.models.transformer_fit import Checkpoint, fit_transformer
from slipstream.models.transformer_training import Epoch, NetworkInTraining
from tests.unit.models.logs import history_of, log_of

ITEMS = 12
SMALL = TransformerParameters(
    patience=3, dim=16, window=6, batch=200, epochs=8, dropout=0.1, learning_rate=1e-2
)


def ring(users: int = 120, length: int = 8, seed: int = 0) -> InteractionLog:
    """Everyone walks around the ring of items, from anywhere."""
    starts = np.random.default_rng(seed).integers(ITEMS, size=users)
    return log_of(
        [[int(start + step) % ITEMS for step in range(length)] for start in starts], ITEMS
    )


@pytest.fixture(scope="module")
def model() -> Transformer:
    return fit_transformer(ring(), SMALL).model


def test_it_learns_what_follows_what(model: Transformer) -> None:
    right = [
        model.score(history_of(start, (start + 1) % ITEMS)).score.argmax() == (start + 2) % ITEMS
        for start in range(ITEMS)
    ]
    assert sum(right) >= ITEMS - 1


def test_its_scores_are_probabilities_of_every_item(model: Transformer) -> None:
    scored = model.score(history_of(3))
    assert len(scored.item) == ITEMS
    assert scored.score.sum() == pytest.approx(1, abs=1e-5)
    some = np.array([7, 2], np.int32)
    np.testing.assert_allclose(model.score_at(scored, some), scored.score[some])


def test_an_empty_history_says_nothing(model: Transformer) -> None:
    scored = model.score(history_of())
    assert len(scored.item) == 0
    np.testing.assert_array_equal(model.score_at(scored, np.array([1], np.int32)), [0])


def test_numpy_reads_what_torch_trained() -> None:
    """Histories shorter and longer than the window, of several weights and gaps, alone and side by
    side.
    """
    random = np.random.default_rng(1)
    log = ring(40)
    log = InteractionLog(
        log.user,
        log.item,
        log.timestamp,
        random.choice([1, 2, 3], len(log)).astype(np.float32),
        ITEMS,
    )
    histories = [
        History(
            random.integers(ITEMS, size=size).astype(np.int32),
            random.choice([1, 2, 3], size).astype(np.float32),
            np.cumsum(random.integers(0, 10**7, size)),
        )
        for size in (1, 2, 5, 6, 9)
    ]
    answers = []

    def quality(dense: Dense) -> float:
        answers.append(dense.score_all(histories))
        return float(len(answers))

    found = fit_transformer(
        log,
        TransformerParameters(dim=16, window=6, batch=100, epochs=2),
        quality=quality,
    ).model
    for row, history in enumerate(histories):
        np.testing.assert_allclose(
            found.items.rows @ found.state(history), answers[-1][row], rtol=1e-3, atol=1e-4
        )


def test_the_best_epoch_is_kept_and_training_stops_when_it_gets_no_better() -> None:
    qualities = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    found = fit_transformer(ring(20), SMALL, quality=lambda _: next(qualities))
    assert found.epochs == 2
    assert [epoch.quality for epoch in found.curve] == [0.1, 0.3, 0.2, 0.2, 0.2]


def test_the_same_seed_gives_the_same_model_and_another_one_does_not() -> None:
    short = TransformerParameters(dim=8, window=6, batch=100, epochs=1)
    first, second, other = (fit_transformer(ring(30), short, seed=seed).model for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.items.rows, second.items.rows)
    assert np.abs(first.items.rows - other.items.rows).max() > 0


def test_a_training_that_was_killed_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        if epoch.epoch == 3:
            raise KilledError

    log = ring(30)
    with pytest.raises(KilledError):
        fit_transformer(log, SMALL, progress=kill, checkpoints=tmp_path)
    told: list[int] = []
    trained: list[int] = []
    train_epoch = NetworkInTraining.train_epoch

    def noted(run: NetworkInTraining, underway: Callable[[float], None]) -> float:
        trained.append(run.epoch + 1)
        return train_epoch(run, underway)

    monkeypatch.setattr(NetworkInTraining, "train_epoch", noted)
    resumed = fit_transformer(
        log, SMALL, progress=lambda epoch: told.append(epoch.epoch), checkpoints=tmp_path
    )
    assert trained == [4, 5, 6, 7, 8]
    assert told == [1, 2, 3, *trained]
    np.testing.assert_allclose(
        resumed.model.items.rows, fit_transformer(log, SMALL).model.items.rows, rtol=1e-4, atol=1e-5
    )


def test_another_trainings_checkpoint_and_half_a_file_are_passed_over(tmp_path: Path) -> None:
    short = TransformerParameters(dim=8, window=6, batch=100, epochs=1)
    fit_transformer(ring(30), short, checkpoints=tmp_path)
    (of_another,) = tmp_path.iterdir()
    assert len(fit_transformer(ring(31), short, checkpoints=tmp_path).curve) == 1
    (own,) = set(tmp_path.iterdir()) - {of_another}
    whole = own.read_bytes()
    own.write_bytes(whole[: len(whole) // 2])
    assert len(fit_transformer(ring(31), short, checkpoints=tmp_path).curve) == 1


def test_a_network_that_is_kept_is_read_as_it_was(tmp_path: Path) -> None:
    terms = fit_terms([{"category": f"c{item % 3}"} for item in range(ITEMS)])
    assert terms is not None
    once = replace(SMALL, epochs=1)
    fit = fit_transformer(ring(30), once, terms=terms.vectors)
    fit = replace(fit, model=fit.model.of_terms(terms))
    checkpoint = Checkpoint(tmp_path / "made later" / "best.pt", "data")
    assert checkpoint.kept(once) is None
    checkpoint.keep(once, fit)
    read = checkpoint.kept(once)
    assert read is not None and (read.epochs, read.curve) == (fit.epochs, fit.curve)
    assert read.model.parameters() == fit.model.parameters()
    arrays = read.model.arrays()
    assert arrays.keys() == fit.model.arrays().keys()
    for name, array in fit.model.arrays().items():
        assert (arrays[name].dtype, arrays[name].tobytes()) == (array.dtype, array.tobytes())
    assert checkpoint.kept(SMALL) is None, "of other parameters"
    assert Checkpoint(checkpoint.path, "other data").kept(once) is None
    (tmp_path / "file").touch()
    Checkpoint(tmp_path / "file" / "best.pt", "data").keep(once, fit)  # a full disk ends nothing


def test_an_item_nobody_has_seen_is_placed_by_its_attributes() -> None:
    """Items 0 to 3 are alike, and items 4 to 9; of those without events, 12 is like the former, 10
    and 11 like the latter.
    """
    from scipy import sparse

    log = log_of([[0, 4, 1, 5], [2, 6, 3, 7], [1, 4, 2, 5], [3, 8, 0, 9]] * 20, ITEMS + 1)
    terms = np.zeros((ITEMS + 1, 2), np.float32)
    terms[[0, 1, 2, 3, ITEMS], 0] = 1
    terms[4:ITEMS, 1] = 1
    found = fit_transformer(log, replace(SMALL, epochs=60), terms=sparse.csr_array(terms)).model
    after_4, after_0 = (found.score(history_of(*seen)).score for seen in ([0, 4], [4, 0]))
    assert after_4[ITEMS] > after_4[10]
    assert after_0[ITEMS] < after_0[10]


@pytest.mark.parametrize(("ahead", "expected"), [(0.0, 1), (0.99, 2)])
def test_a_label_may_lie_further_ahead_up_to_the_last_event(ahead: float, expected: int) -> None:
    log = log_of([[0, 1, 2]] * 60, 3)
    found = fit_transformer(log, replace(SMALL, epochs=30, ahead=ahead)).model
    assert found.score(history_of(0)).score.argmax() == expected


def test_items_without_their_own_vectors_are_as_their_attributes() -> None:
    from scipy import sparse

    terms = np.eye(2, dtype=np.float32)[np.arange(ITEMS) % 2]
    only = replace(SMALL, unnamed=1.0, own_scale=0.0)
    rows = fit_transformer(ring(), only, terms=sparse.csr_array(terms)).model.items.vectors(
        np.arange(ITEMS, dtype=np.int32)
    )
    np.testing.assert_allclose(rows[::2], np.tile(rows[0], (ITEMS // 2, 1)), atol=1e-6)
    assert not np.allclose(rows[0], rows[1], atol=0.1)


def test_an_item_that_comes_later_has_the_vector_of_its_attributes() -> None:
    entries = [{"kind": f"kind {item % 3}", "shape": item % 2} for item in range(ITEMS)]
    terms = fit_terms(entries)
    assert terms is not None
    only = replace(SMALL, unnamed=1.0, own_scale=0.0, epochs=2)
    found = fit_transformer(ring(), only, terms=terms.vectors).model
    assert not found.knows_terms
    found = found.of_terms(terms)
    kept = Transformer.restore(found.arrays(), found.parameters())
    rows = kept.items.vectors(np.arange(ITEMS, dtype=np.int32))
    for entry, row in zip(entries, rows, strict=True):
        np.testing.assert_allclose(kept.described(entry), row, rtol=1e-4, atol=1e-6)


def test_a_training_that_diverges_leaves_finite_weights() -> None:
    found = fit_transformer(ring(30), replace(SMALL, learning_rate=1e30))
    assert np.isfinite(found.model.items.rows).all()
    assert len(found.curve) < SMALL.epochs


def test_no_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="no sequence"):
        fit_transformer(log_of([[1], [2], [3]], ITEMS), SMALL)


def test_buckets_are_finer_near_by() -> None:
    near = distance_buckets(300)
    assert near[5].tolist()[:6] == [5, 4, 3, 2, 1, 0]
    assert near.max() <= BUCKETS - 1
    assert (np.diff(near[299][::-1]) >= 0).all()
    assert gap_buckets(np.array([-5, 0, 999, 1_000, 10**18])).tolist() == [0, 0, 0, 1, BUCKETS - 1]
